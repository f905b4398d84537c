"""A backlog through the real-time path: `realtime run`, raw copies, Kafka Streams; each guarantee.

There are two raw copies. One copies the input, the least that any service has to do; the records are less than half as
large as those that are published. The other copies what `realtime run` has published, headers included: the least that anything
has to do which publishes these records.

Seconds count from the assignment of the partitions until everything is delivered, committed and closed, as each program
tells it. CPU and memory are those of the whole process. Every output is read back and counted.
"""

from .install import STREAMS_CLASSES
from .machine import STATES, BenchError, binary
from .session import INPUT_TOPIC, QUIET_SERVICE, alternate, figures

ASSIGNED = "partitions assigned"
DONE = "everything that was read is committed"
# Enough for this topology with room to spare: more only lets garbage wait longer.
STREAMS_HEAP = "256m"
STREAMS_GUARANTEE = {"at-least-once": "at_least_once", "exactly-once": "exactly_once_v2"}


def realtime_argv(session, guarantee, input_topic, output, dead_letters, insights):
    """`realtime run` in a group of its own."""
    argv = [binary("realtime"), "run", "--brokers", session.brokers, "--group-id", session.name("realtime")]
    argv += ["--input-topic", input_topic, "--output-topic", output, "--dead-letter-topic", dead_letters]
    return [*argv, "--insights-topic", insights, "--guarantee", guarantee, *QUIET_SERVICE]


def streams_argv(session, guarantee, input_topic, output, dead_letters, *, until, linger_ms):
    """Our Kafka Streams application under an id of its own."""
    application = session.name("streams")
    settings = {
        "brokers": session.brokers,
        "application": application,
        "input": input_topic,
        "output": output,
        "dead-letters": dead_letters,
        "states": STATES,
        "guarantee": STREAMS_GUARANTEE[guarantee],
        "state-dir": session.folder / application,
        "linger-ms": linger_ms,
        "until": until,
    }
    java = ["java", f"-Xmx{STREAMS_HEAP}", "-cp", STREAMS_CLASSES, "LoginStreams"]
    return [*java, *(f"{name}={value}" for name, value in settings.items())]


OUTPUT_COPY = "raw copy of the output"


def once(session, records, program, guarantee, published):
    """One contestant over the whole backlog, into topics of its own."""
    with session.topics("processed", "dead-letters", "insights") as (output, dead_letters, insights):
        label = f"{program}-{guarantee}"
        if program == "realtime run":
            argv = realtime_argv(session, guarantee, INPUT_TOPIC, output, dead_letters, insights)
            measured = session.run([*argv, "--exit-at-end"], label.replace(" ", "-"))
            seconds, totals = measured.seconds_between(ASSIGNED, DONE)
            handled = totals["processed"]
        else:
            if program in ("raw copy", OUTPUT_COPY):
                argv = [binary("raw_copy"), "--brokers", session.brokers, "--group-id", session.name("raw-copy")]
                source = published if program == OUTPUT_COPY else INPUT_TOPIC
                argv += ["--input-topic", source, "--output-topic", output]
                argv += ["--transactional"] if guarantee == "exactly-once" else []
            else:
                # Streams' own default; batches fill up long before.
                argv = streams_argv(
                    session, guarantee, INPUT_TOPIC, output, dead_letters, until="end", linger_ms=100
                )
            measured = session.run(argv, label.replace(" ", "-"))
            result = measured.result()
            seconds, handled = result["seconds"], result["records"]
        written = session.count(output)
    if (handled, written) != (records, records):
        raise BenchError(f"{label}: of {records} records it counts {handled}, and {written} are in its output")
    return figures(measured, records, seconds)


def bench(session):
    """The whole benchmark."""
    records = session.backlog()
    contestants = {
        f"{program}, {guarantee}": (program, guarantee)
        for guarantee in ("at-least-once", "exactly-once")
        for program in ("realtime run", "raw copy", OUTPUT_COPY, "Kafka Streams")
    }
    with session.topics("published", "published-dead-letters", "published-insights") as topics:
        argv = realtime_argv(session, "at-least-once", INPUT_TOPIC, *topics)
        session.run([*argv, "--exit-at-end"], "publish")
        results = alternate(
            contestants, session.options.runs, lambda _, which: once(session, records, *which, topics[0])
        )
    return session.result("realtime", records=records, runs=session.options.runs, contestants=results)
