"""The batch view: the files of `sql/hourly` by `olap query`, on local lakes of one million rows and of many, and on the large one
again after many refreshes. Each run is a whole process that starts cold. Their answers are compared with those of the same
files of `sql/` over all logins.
"""

import datetime
import json

from .machine import TOP, BenchError, binary
from .query import DAYS, answer_of, make_lake
from .session import alternate

QUERIES = ("peak_hours", "peak_hours_by_region", "daily_trend")
SMALL_ROWS = 1_000_000
# Each of them replaces the file of one date, and is a commit.
REFRESHES = 125
FIRST_DATE = datetime.date(2026, 1, 1)
LIMIT_MS = 40


def refresh(session, lake, *arguments):
    """Counts the dates of the view that changed, or those that are asked for."""
    argv = [binary("olap"), "refresh", "--lake", lake, "--log-format", "json", *arguments]
    session.run(argv, "olap-refresh", limit=3600)


def ask(session, lake, sql):
    """A query; returns what it took and its answer."""
    argv = [binary("olap"), "query", sql, "--lake", lake, "--format", "json", "-q"]
    measured = session.run(argv, f"olap-{sql.stem}", limit=300)
    return measured, answer_of(measured.stdout)


def view_of(lake):
    """Rows, files and bytes of the view, and the commits that a reader of its log has to read, from the log itself."""
    log = lake / "logins_hourly" / "_delta_log"
    live = {}
    versions = sorted(log.glob("*.json"))
    for commit in versions:
        for line in commit.read_text().splitlines():
            action = json.loads(line)
            if "remove" in action:
                live.pop(action["remove"]["path"], None)
            if "add" in action:
                live[action["add"]["path"]] = action["add"]
    checkpoint = log / "_last_checkpoint"
    behind = json.loads(checkpoint.read_text())["version"] if checkpoint.exists() else -1
    return {
        "rows": sum(json.loads(add["stats"])["numRecords"] for add in live.values()),
        "files": len(live),
        "bytes": sum(add["size"] for add in live.values()),
        "commits": len(versions),
        "commits_after_checkpoint": len(versions) - 1 - behind,
    }


def bench(session):
    """The whole benchmark."""
    rows = session.options.rows
    # Fewer when somebody only tries the harness.
    small = min(SMALL_ROWS, rows // 2)
    lakes, views = {}, {}
    for name, count in ((f"{small:,} rows", small), (f"{rows:,} rows", rows)):
        lake, _ = make_lake(session, f"lake-hourly-{count}", count, DAYS)
        refresh(session, lake)
        lakes[name], views[name] = lake, view_of(lake)
    answers = {
        (lake, query): ask(session, lake, TOP / "sql" / f"{query}.sql")[1] for lake in lakes.values() for query in QUERIES
    }

    def run(name, which):
        lake, query = which
        measured, answer = ask(session, lake, TOP / "sql/hourly" / f"{query}.sql")
        if answer != answers[which]:
            raise BenchError(f"{name}: another answer than that of sql/{query}.sql")
        return {
            "process_ms": measured.wall_seconds * 1e3,
            "cpu_ms": measured.cpu_seconds * 1e3,
            "peak_mib": measured.peak_bytes / 2**20,
        }

    def contestants(names):
        return {f"{query}.sql, {name}": (lakes[name], query) for name in names for query in QUERIES}

    results = alternate(contestants(lakes), session.options.runs, run)
    # The same lake, refreshed many times since.
    often = f"{rows:,} rows, {REFRESHES} refreshes later"
    large = lakes[f"{rows:,} rows"]
    for number in range(REFRESHES):
        refresh(session, large, "--date", FIRST_DATE + datetime.timedelta(days=number % DAYS))
    lakes[often], views[often] = large, view_of(large)
    results |= alternate(contestants([often]), session.options.runs, run)
    return session.result(
        "hourly", rows=rows, days=DAYS, views=views, limit_ms=LIMIT_MS, runs=session.options.runs, contestants=results
    )
