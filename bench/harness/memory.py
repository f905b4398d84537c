"""Memory of `olap ingest` over a backlog, drawn: four Kafka partitions, four hundred, and four hundred before a slow store.

The backlog is five times --records, so long that whatever grew with it would be seen. The picture of release builds goes into
docs/images, that of others next to the results.
"""

import urllib.parse

from .ingest import rows
from .machine import PROFILE, RESULTS, TOP, BenchError, binary, say
from .plot import draw
from .session import QUIET_SERVICE, SEED
from .throttle import throttled

# The bar, in the unit in which it is set: 10**6 bytes.
LIMIT_MB = 256
TIMES_RECORDS = 5
PARTITIONS = (4, 400)
# Slower than what is produced for it, about 23 bytes a record.
SLOW_BYTES_PER_SECOND = 8_000_000
PICTURE = "ingest-memory.svg"


def fill(session, partitions, records):
    """A topic of so many partitions with the backlog; its name."""
    topic = session.name(f"memory-{partitions}")
    say(f"producing {records:,} records into {partitions} partitions")
    create = [binary("topics"), "--brokers", session.brokers, "create", "--partitions", partitions, topic]
    session.run(create, "create-topic", limit=120)
    argv = [binary("generate"), "--brokers", session.brokers, "--input-topic", topic, "--count", records]
    session.run([*argv, "--seed", SEED, "--rate", 0], "generate", limit=3600)
    return topic


def once(session, topic, records, environment):
    """One run over the backlog: resident memory over time."""
    bucket = session.name("bench")
    session.minio.make_bucket(bucket)
    argv = [binary("olap"), "ingest", "--brokers", session.brokers, "--input-topic", topic]
    argv += ["--group-id", session.name("ingest"), "--lake", f"s3://{bucket}/lake", "--exit-at-end", *QUIET_SERVICE]
    samples = []
    measured = session.run(argv, "olap-ingest", environment=environment, limit=3600, samples=samples)
    stored = rows(session, bucket, session.minio.environment())
    if stored != records:
        raise BenchError(f"of {records} records {stored} are in the table")
    if not samples:
        raise BenchError("resident memory is read from /proc, which this system does not have")
    say(f"  at most {measured.peak_bytes / 1e6:,.0f} MB in {measured.wall_seconds:,.0f} s")
    return {
        "peak_mb": measured.peak_bytes / 1e6,
        "seconds": measured.wall_seconds,
        "samples": [[round(seconds, 2), resident] for seconds, resident in samples],
    }


def picture(records, contestants):
    """The SVG."""
    curves = [
        (name, [(seconds, resident / 1e6) for seconds, resident in run["samples"]]) for name, run in contestants.items()
    ]
    title = f"olap ingest, {records:,} records of backlog, default settings"
    return draw(title, curves, "seconds since the start of the process", "resident memory, MB", LIMIT_MB, f"bar: {LIMIT_MB} MB")


def bench(session):
    """The whole benchmark."""
    records = session.options.records * TIMES_RECORDS
    environment = session.minio.environment()
    contestants = {}
    for partitions in PARTITIONS:
        topic = fill(session, partitions, records)
        contestants[f"{partitions} partitions"] = once(session, topic, records, environment)
    port = urllib.parse.urlsplit(session.minio.address).port
    with throttled(port, SLOW_BYTES_PER_SECOND) as slow_port:
        slow = environment | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{slow_port}"}
        name = f"{PARTITIONS[-1]} partitions, store of {SLOW_BYTES_PER_SECOND // 1_000_000} MB/s"
        contestants[name] = once(session, topic, records, slow)
    folder = TOP / "docs/images" if PROFILE == "release" else RESULTS
    folder.mkdir(exist_ok=True)
    (folder / PICTURE).write_text(picture(records, contestants))
    say(f"drawn: {(folder / PICTURE).relative_to(TOP)}")
    return session.result("memory", records=records, runs=1, limit_mb=LIMIT_MB, contestants=contestants)
