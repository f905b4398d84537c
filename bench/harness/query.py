"""The project's own SQL files on a local lake of ten days: `olap query`, DuckDB and Polars over the same Parquet files; and
`olap query` on ten rows, which is what it costs to start.

Every contestant is a process of its own that starts cold; the peers also tell the time of the query alone, imports and the
reading of the table's log left out. Their answers are compared with ours.
"""

import json

from .machine import BENCH, PYTHON, TOP, BenchError, binary, say
from .session import alternate

QUERIES = ("top_regions", "peak_hours")
DAYS = 10
SMALL_ROWS = 10


def make_lake(session, name, rows, days):
    """A local lake, compacted."""
    folder = session.folder / name
    say(f"making a lake of {rows:,} rows")
    argv = [binary("make_lake"), "--lake", folder, "--rows", rows, "--days", days]
    made = session.run(argv, "make-lake", limit=3600).result()
    compact = [binary("olap"), "compact", "--all", "--lake", folder, "--log-format", "json"]
    session.run(compact, "olap-compact", limit=3600)
    return folder, made


def answer_of(text):
    """Rows as lists of numbers rounded and texts, whatever notation a program has for them."""

    def value(cell):
        try:
            return round(float(cell), 9)
        except (TypeError, ValueError):
            return cell

    return [[value(cell) for cell in row.values()] for row in json.loads(text)]


def once(session, lake, query, program):
    """One contestant on one query; returns its figures and its answer."""
    sql = TOP / "sql" / f"{query}.sql"
    if program == "olap query":
        argv = [binary("olap"), "query", sql, "--lake", lake, "--format", "json", "-q"]
        measured = session.run(argv, f"olap-{query}", limit=300)
        answer, inside = measured.stdout, {}
    else:
        argv = [PYTHON, BENCH / "peers/query.py", program, "--table", lake / "logins", "--sql", sql]
        measured = session.run(argv, f"{program}-{query}", limit=300)
        result = measured.result()
        answer, inside = json.dumps(result["rows"]), {"query_ms": result["seconds"] * 1e3}
    figures = {
        "process_ms": measured.wall_seconds * 1e3,
        "cpu_ms": measured.cpu_seconds * 1e3,
        "peak_mib": measured.peak_bytes / 2**20,
    }
    return figures | inside, answer_of(answer)


def bench(session):
    """The whole benchmark."""
    rows = session.options.rows
    large, made = make_lake(session, "lake-large", rows, DAYS)
    small, _ = make_lake(session, "lake-small", SMALL_ROWS, 1)
    answers = {}

    def run(name, which):
        lake, query, program = which
        sample, answer = once(session, lake, query, program)
        if answer != answers.setdefault((lake, query), answer):
            raise BenchError(f"{name}: another answer than that of `olap query`")
        return sample

    contestants = {
        f"{query}.sql, {program}": (large, query, program)
        for query in QUERIES
        for program in ("olap query", "duckdb", "polars")
    }
    contestants[f"top_regions.sql on {SMALL_ROWS} rows, olap query"] = (small, "top_regions", "olap query")
    results = alternate(contestants, session.options.runs, run)
    return session.result(
        "query", rows=rows, days=DAYS, lake=made, runs=session.options.runs, contestants=results
    )
