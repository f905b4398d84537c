"""The fresh answer: `olap query --fresh` over a table that holds next to nothing, so that all of the backlog is read from Kafka:
`sql/top_regions.sql`, which reads two columns, no column, every column, and events of times that no record can have; and
`sql/top_regions.sql` over a table that is a thousand records behind, from the moment at which these were acknowledged.

Every answer has to count exactly what was produced.
"""

import json
import time

from .machine import TOP, BenchError, binary, say
from .session import QUIET_SERVICE, SEED, figures, medians

SQL = TOP / "sql/top_regions.sql"
# Records of the table before the backlog, and of each step after it.
STEP = 1_000
COLUMNS = (
    "user_id device_id timestamp ip locale device_type app_version event_time processed_timestamp region division login_date "
    "login_hour local_hour time_of_day day_of_week ip_class ip_prefix flags kafka_partition kafka_offset kafka_timestamp"
).split()
# What a query over the backlog reads: its arguments, and whether it counts the records that were produced.
BACKLOGS = {
    "backlog": ([SQL], True),
    "no-column": (["-e", "SELECT count(*) AS logins FROM logins"], True),
    "every-column": (
        ["-e", "SELECT count(*) AS logins, " + ", ".join(f'count("{name}") AS "{name}"' for name in COLUMNS) + " FROM logins"],
        True,
    ),
    # No login is told days before it happens: no record has to be decoded.
    "no-time": (["-e", "SELECT count(*) AS logins FROM logins WHERE event_time >= now() + INTERVAL '7' DAY"], False),
}


def produce(session, topic, count):
    """Produces; returns when all of it was acknowledged."""
    argv = [binary("generate"), "--brokers", session.brokers, "--input-topic", topic, "--count", count]
    session.run([*argv, "--seed", SEED, "--rate", 0, "--bad-share", 0], "generate", limit=1800)
    return time.monotonic()


def ingest(session, topic, lake):
    """What the topic holds into the table."""
    argv = [binary("olap"), "ingest", "--brokers", session.brokers, "--input-topic", topic, "--lake", lake]
    session.run([*argv, "--group-id", f"{topic}-ingest", "--exit-at-end", *QUIET_SERVICE], "olap-ingest")


def query(session, topic, lake, expected, what=(SQL,)):
    """One answer, which has to count `expected` logins."""
    argv = [binary("olap"), "query", *what, "--fresh", "--brokers", session.brokers, "--input-topic", topic]
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
        backlogs = {name: [] for name in BACKLOGS}
        for number in range(runs):
            for name, (what, counts) in BACKLOGS.items():
                measured = query(session, topic, lake, total if counts else 0, what)
                samples = backlogs[name]
                samples.append(figures(measured, records, measured.wall_seconds))
                say(f"  run {number + 1}/{runs}  {name}: {samples[-1]['records_per_second']:,.0f} records/s")
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
            **{name: {"samples": samples, "median": medians(samples)} for name, samples in backlogs.items()},
            "step": {"samples": steps, "median": medians(steps)},
        },
    )
