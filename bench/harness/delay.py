"""How long a record takes from being produced to being received by a read_committed reader of the output topic.

The probe that produces and receives is one process with one clock; "bare hop" is the same probe with nothing in between.
"""

import contextlib

from .machine import binary
from .realtime import ASSIGNED, realtime_argv, streams_argv
from .session import alternate

RATES = (1_000, 10_000)


@contextlib.contextmanager
def processor(session, program, guarantee, topics):
    """A contestant that is running and has its partitions; gives the topic that it writes to."""
    input_topic, output, dead_letters, insights = topics
    if program == "bare hop":
        yield input_topic
        return
    if program == "realtime run":
        argv = realtime_argv(session, guarantee, input_topic, output, dead_letters, insights)
        ready = ASSIGNED
    else:
        argv = streams_argv(session, guarantee, input_topic, output, dead_letters, until="stopped", linger_ms=0)
        ready = "running\n"
    with session.service(argv, f"delay-{program.replace(' ', '-')}", ready_text=ready):
        yield output


def once(session, program, guarantee, rate):
    """One contestant at one rate."""
    with session.topics("delay-in", "delay-out", "delay-dead-letters", "delay-insights") as topics:
        with processor(session, program, guarantee, topics) as output:
            argv = [binary("delay_probe"), "--brokers", session.brokers, "--input-topic", topics[0]]
            argv += ["--output-topic", output, "--rate", rate, "--seconds", session.options.seconds]
            result = session.run(argv, "delay-probe", limit=session.options.seconds + 120).result()
    return {key: result[key] for key in ("p50_ms", "p99_ms", "max_ms", "sent_per_second")}


def bench(session):
    """The whole benchmark."""
    programs = [("bare hop", "")]
    programs += [
        (program, guarantee)
        for guarantee in ("at-least-once", "exactly-once")
        for program in ("realtime run", "Kafka Streams")
    ]
    contestants = {
        f"{', '.join(filter(None, which))} at {rate:,}/s": (*which, rate) for rate in RATES for which in programs
    }
    results = alternate(contestants, session.options.runs, lambda _, which: once(session, *which))
    return session.result("delay", seconds=session.options.seconds, runs=session.options.runs, contestants=results)
