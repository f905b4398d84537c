"""The project's own SQL files on a lake of ten days, on the local disk and on MinIO: `olap query`, DuckDB and Polars over the
same Parquet files; and `olap query` on ten rows, which is what it costs to start.

Every contestant is a process of its own that starts cold; the peers also tell the time of the query alone, imports and the
reading of the table's log left out. Their answers are compared with ours.
"""

import json

from .machine import BENCH, PYTHON, TOP, BenchError, binary, say
from .session import alternate

QUERIES = ("top_regions", "peak_hours")
DAYS = 10
SMALL_ROWS = 10


def make_lake(session, name, rows, days, bucket=None):
    """A lake, compacted: local, or in a new bucket on MinIO. Gives its address, and what was written."""
    if bucket:
        session.minio.make_bucket(bucket)
    lake = f"s3://{bucket}/{name}" if bucket else session.folder / name
    environment = session.minio.environment() if bucket else None
    say(f"making a lake of {rows:,} rows" + (" on MinIO" if bucket else ""))
    argv = [binary("make_lake"), "--lake", lake, "--rows", rows, "--days", days]
    made = session.run(argv, "make-lake", limit=3600, environment=environment).result()
    compact = [binary("olap"), "compact", "--all", "--lake", lake, "--log-format", "json"]
    session.run(compact, "olap-compact", limit=3600, environment=environment)
    return lake, made


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
    environment = session.minio.environment() if str(lake).startswith("s3://") else None
    if program == "olap query":
        argv = [binary("olap"), "query", sql, "--lake", lake, "--format", "json", "-q"]
        measured = session.run(argv, f"olap-{query}", limit=300, environment=environment)
        answer, inside = measured.stdout, {}
    else:
        argv = [PYTHON, BENCH / "peers/query.py", program, "--table", f"{lake}/logins", "--sql", sql]
        measured = session.run(argv, f"{program}-{query}", limit=300, environment=environment)
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
    stored, _ = make_lake(session, "lake", rows, DAYS, bucket="query")
    small, _ = make_lake(session, "lake-small", SMALL_ROWS, 1)
    answers = {}

    def run(name, which):
        lake, query, program = which
        sample, answer = once(session, lake, query, program)
        if answer != answers.setdefault((lake == small, query), answer):
            raise BenchError(f"{name}: another answer than that of `olap query`")
        return sample

    contestants = {
        f"{query}.sql, {where}, {program}": (lake, query, program)
        for where, lake in (("local disk", large), ("MinIO", stored))
        for query in QUERIES
        for program in ("olap query", "duckdb", "polars")
    }
    contestants[f"top_regions.sql on {SMALL_ROWS} rows, olap query"] = (small, "top_regions", "olap query")
    results = alternate(contestants, session.options.runs, run)
    return session.result(
        "query", rows=rows, days=DAYS, lake=made, runs=session.options.runs, contestants=results
    )
