"""The fresh answer: `olap query --fresh sql/top_regions.sql` over a table that holds next to nothing, so that all of the backlog
is read from Kafka; and over a table that is a thousand records behind, from the moment at which these were acknowledged.

Every answer has to count exactly what was produced.
"""

import json
import time

from .machine import TOP, BenchError, binary, say
from .session import QUIET_SERVICE, SEED, figures, medians

SQL = TOP / "sql/top_regions.sql"
# Records of the table before the backlog, and of each step after it.
STEP = 1_000


def produce(session, topic, count):
    """Produces; returns when all of it was acknowledged."""
    argv = [binary("generate"), "--brokers", session.brokers, "--input-topic", topic, "--count", count]
    session.run([*argv, "--seed", SEED, "--rate", 0, "--bad-share", 0], "generate", limit=1800)
    return time.monotonic()


def ingest(session, topic, lake):
    """What the topic holds into the table."""
    argv = [binary("olap"), "ingest", "--brokers", session.brokers, "--input-topic", topic, "--lake", lake]
    session.run([*argv, "--group-id", f"{topic}-ingest", "--exit-at-end", *QUIET_SERVICE], "olap-ingest")


def query(session, topic, lake, expected):
    """One answer, which has to count `expected` logins."""
    argv = [binary("olap"), "query", SQL, "--fresh", "--brokers", session.brokers, "--input-topic", topic]
    measured = session.run([*argv, "--lake", lake, "--format", "json", "-q"], "olap-query-fresh", limit=600)
    counted = sum(row["logins"] for row in json.loads(measured.stdout))
    if counted != expected:
        raise BenchError(f"olap query --fresh counts {counted} logins, {expected} were produced")
    return measured


def bench(session):
    """The whole benchmark."""
    records, runs = session.options.records, session.options.runs
    with session.topics("fresh") as (topic,):
        lake = session.folder / "lake-fresh"
        produce(session, topic, STEP)
        ingest(session, topic, lake)
        say(f"producing {records:,} records")
        produce(session, topic, records)
        total = STEP + records
        backlog = []
        for number in range(runs):
            measured = query(session, topic, lake, total)
            backlog.append(figures(measured, records, measured.wall_seconds))
            say(f"  run {number + 1}/{runs}  backlog: {backlog[-1]['records_per_second']:,.0f} records/s")
        ingest(session, topic, lake)
        steps = []
        for number in range(runs):
            acknowledged = produce(session, topic, STEP)
            total += STEP
            measured = query(session, topic, lake, total)
            steps.append({"seconds": time.monotonic() - acknowledged, "peak_mib": measured.peak_bytes / 2**20})
            say(f"  run {number + 1}/{runs}  produced to answered: {steps[-1]['seconds'] * 1e3:,.0f} ms")
            ingest(session, topic, lake)
    return session.result(
        "fresh",
        records=records,
        step=STEP,
        runs=runs,
        contestants={
            "backlog": {"samples": backlog, "median": medians(backlog)},
            "step": {"samples": steps, "median": medians(steps)},
        },
    )
