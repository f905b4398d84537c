"""`olap audit` of a lake on MinIO beside the topic that it was filled from and the topics of the speed path: all that records say
compared, and their positions only; a raw read of the topic beside it. What is counted are the records of all topics and the rows of
the tables, over the whole process.
"""

from .ingest import ingest_argv, rows
from .machine import BenchError, binary
from .realtime import realtime_argv
from .session import INPUT_TOPIC, alternate, figures


def audit_argv(session, lake, group, output, dead_letters, compare):
    """`olap audit` beside everything."""
    argv = [binary("olap"), "audit", "--lake", lake, "--brokers", session.brokers, "--input-topic", INPUT_TOPIC]
    argv += ["--output-topic", output, "--dead-letter-topic", dead_letters, "--realtime-group", group]
    return [*argv, "--compare", compare, "--format", "json", "--log-format", "json"]


def once(session, records, program, environment, argv):
    """One run; a finding ends the benchmark, because the exit code is 3 then."""
    measured = session.run(argv, program.replace(" ", "-").replace(",", ""), environment=environment, limit=3600)
    if program == "raw read":
        result = measured.result()
        if result["records"] != records:
            raise BenchError(f"{program}: of {records} records it counts {result['records']}")
        return figures(measured, records, result["seconds"])
    report = measured.result()
    compared = sum(partition["input"]["records"] for partition in report["partitions"])
    published = sum(partition["speed_path"]["records"] for partition in report["partitions"])
    if (compared, published, report["rows"]) != (records, records, records):
        raise BenchError(f"{program}: of {records} it compares {compared} records, {published} published ones and {report['rows']} rows")
    return figures(measured, compared + published + report["rows"], measured.wall_seconds)


def bench(session):
    """The whole benchmark."""
    records = session.backlog()
    bucket = session.name("bench")
    session.minio.make_bucket(bucket)
    environment = session.minio.environment()
    session.run(ingest_argv(session, bucket), "olap-ingest", environment=environment, limit=1800)
    if rows(session, bucket, environment) != records:
        raise BenchError(f"not all of {records} records are in the table")
    with session.topics("processed", "dead-letters", "insights") as (output, dead_letters, insights):
        argv = realtime_argv(session, "exactly-once", INPUT_TOPIC, output, dead_letters, insights)
        group = argv[argv.index("--group-id") + 1]
        session.run([*argv, "--exit-at-end"], "realtime", limit=1800)
        lake = f"s3://{bucket}/lake"
        programs = {
            name: audit_argv(session, lake, group, output, dead_letters, compare)
            for name, compare in (("olap audit", "contents"), ("olap audit, positions only", "positions"))
        }
        read = [binary("raw_read"), "--brokers", session.brokers, "--topic", INPUT_TOPIC]

        def run(name, argv):
            of_group = ["--group-id", session.name("read")] if name == "raw read" else []
            return once(session, records, name, environment, [*argv, *of_group])

        results = alternate(programs | {"raw read": read}, session.options.runs, run)
    return session.result("audit", records=records, runs=session.options.runs, contestants=results)
