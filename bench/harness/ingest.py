"""A backlog into a Delta table on MinIO: `olap ingest`, a Python peer, and a raw read as the most that is possible.

Each run gets a bucket of its own. Afterwards a table of many small commits, as a day of ingestion leaves it, is compacted, and
the size of its files is compared with what pyarrow writes for the same rows at zstd level 3.
"""

from .machine import BENCH, PYTHON, BenchError, binary
from .realtime import ASSIGNED, DONE
from .session import INPUT_TOPIC, QUIET_SERVICE, alternate, figures


# Commits of the table that is compacted, at most: while one is under way the next batch grows.
SMALL_COMMITS = 16


def ingest_argv(session, bucket):
    """`olap ingest` in a group of its own."""
    argv = [binary("olap"), "ingest", "--brokers", session.brokers, "--input-topic", INPUT_TOPIC]
    argv += ["--group-id", session.name("ingest"), "--lake", f"s3://{bucket}/lake"]
    return [*argv, "--exit-at-end", *QUIET_SERVICE]


def rows(session, bucket, environment):
    """Rows of the table in a bucket, by its log, as an independent reader sees it."""
    argv = [PYTHON, BENCH / "peers/table.py", "rows", f"s3://{bucket}/lake/logins"]
    return session.run(argv, "rows", environment=environment, limit=300).result()["rows"]


def once(session, records, program):
    """One contestant over the whole backlog."""
    bucket = session.name("bench")
    session.minio.make_bucket(bucket)
    environment = session.minio.environment()
    group = ["--group-id", session.name("ingest")]
    if program == "olap ingest":
        measured = session.run(ingest_argv(session, bucket), "olap-ingest", environment=environment)
        seconds, totals = measured.seconds_between(ASSIGNED, DONE)
        handled, stored = totals["logins"], rows(session, bucket, environment)
    elif program == "Python":
        argv = [PYTHON, BENCH / "peers/ingest.py", "--brokers", session.brokers, "--topic", INPUT_TOPIC, *group]
        argv += ["--table", f"s3://{bucket}/lake/logins"]
        measured = session.run(argv, "python-ingest", environment=environment, limit=1800)
        result = measured.result()
        seconds, handled, stored = result["seconds"], result["records"], rows(session, bucket, environment)
    else:
        argv = [binary("raw_read"), "--brokers", session.brokers, "--topic", INPUT_TOPIC, *group]
        measured = session.run(argv, "raw-read")
        result = measured.result()
        seconds, handled, stored = result["seconds"], result["records"], records
    if (handled, stored) != (records, records):
        raise BenchError(f"{program}: of {records} records it counts {handled}, and {stored} are in its table")
    return figures(measured, records, seconds)


def file_sizes(session, records):
    """Ingests the backlog in small commits, compacts the table and weighs its files."""
    bucket = session.name("bench")
    session.minio.make_bucket(bucket)
    environment = session.minio.environment()
    small = ["--max-batch-rows", max(records // SMALL_COMMITS, 1)]
    session.run([*ingest_argv(session, bucket), *small], "olap-ingest-small", environment=environment)
    weigh = [PYTHON, BENCH / "peers/table.py", "sizes", f"s3://{bucket}/lake/logins"]
    compact = [binary("olap"), "compact", "--all", "--lake", f"s3://{bucket}/lake", "--log-format", "json"]
    hot = session.run(weigh, "sizes", environment=environment).result()
    measured = session.run(compact, "olap-compact", environment=environment)
    compacted = session.run(weigh, "sizes", environment=environment).result()
    if {hot["rows"], compacted["rows"]} != {records}:
        raise BenchError(f"of {records} rows {hot['rows']} were ingested and {compacted['rows']} are left after compaction")
    return {
        "rows": records,
        "ingested": {"files": hot["files"], "bytes": hot["bytes"]},
        "compacted": {"files": compacted["files"], "bytes": compacted["bytes"]},
        "pyarrow_zstd_3_bytes": compacted["pyarrow_zstd_3_bytes"],
        "compact_seconds": measured.wall_seconds,
        "compact_peak_mib": measured.peak_bytes / 2**20,
    }


def bench(session):
    """The whole benchmark."""
    records = session.backlog()
    programs = {name: name for name in ("olap ingest", "Python", "raw read")}
    results = alternate(programs, session.options.runs, lambda _, program: once(session, records, program))
    sizes = file_sizes(session, records)
    return session.result("ingest", records=records, runs=session.options.runs, contestants=results, files=sizes)
