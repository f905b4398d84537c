"""The command line of bench/run."""

import argparse
import signal
import sys

from . import audit, cluster, commits, compact, delay, fresh, hourly, ingest, install, memory, query, realtime, report
from .machine import BenchError, facts, say
from .session import open_session

BENCHMARKS = {
    "realtime": realtime.bench,
    "delay": delay.bench,
    "ingest": ingest.bench,
    "memory": memory.bench,
    "compact": compact.bench,
    "audit": audit.bench,
    "query": query.bench,
    "commits": commits.bench,
    "hourly": hourly.bench,
    "fresh": fresh.bench,
    "cluster": cluster.bench,
}
# A build of its own, so only when it is named.
APART = {"cluster"}
# What a benchmark needs beside our binaries.
NEEDS = {
    "realtime": [lambda: install.real_parts("kafka"), install.streams],
    "delay": [lambda: install.real_parts("kafka"), install.streams],
    "ingest": [lambda: install.real_parts("kafka", "minio"), install.python_peers],
    "memory": [lambda: install.real_parts("kafka", "minio"), install.python_peers],
    "compact": [install.python_peers],
    "audit": [lambda: install.real_parts("kafka", "minio"), install.python_peers],
    "query": [lambda: install.real_parts("minio"), install.python_peers],
    "commits": [lambda: install.real_parts("minio"), install.python_peers],
    "hourly": [install.python_peers],
    "fresh": [lambda: install.real_parts("kafka")],
    "cluster": [lambda: install.real_parts("minio"), install.python_peers, cluster.build],
}
# A machine that does other work at the same time makes figures that nobody can repeat.
QUIET_LOAD = 0.7


def positive(text):
    """A whole number above 0."""
    number = int(text.replace("_", "").replace(",", ""))
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def parse(doc):
    """The arguments."""
    parser = argparse.ArgumentParser(
        prog="bench/run", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=[*BENCHMARKS, "all", "readme"])
    parser.add_argument("--records", type=positive, default=2_000_000, help="records of a backlog [%(default)s]")
    parser.add_argument("--runs", type=positive, default=5, help="runs of each contestant [%(default)s]")
    parser.add_argument("--rows", type=positive, default=20_000_000, help="rows that are queried [%(default)s]")
    parser.add_argument("--seconds", type=positive, default=20, help="seconds of a measurement of delay [%(default)s]")
    return parser.parse_args()


def measure(names, options):
    """Runs benchmarks one after the other on one broker and one backlog; each is kept and shown as soon as it is done."""
    about = facts()
    if about["load_at_start"] > QUIET_LOAD:
        say(f"warning: the load is {about['load_at_start']}: what a busy machine measures cannot be repeated")
    for need in (need for name in names for need in NEEDS[name]):
        need()
    install.binaries()
    with open_session(options, about) as session:
        for name in names:
            say(f"measuring {name}")
            result = BENCHMARKS[name](session)
            report.keep(result)
            print(report.render(result), end="\n\n", flush=True)
        print(report.machine(about) + ".")


def main(doc):
    """Exit code 0 when everything was measured, 1 otherwise."""
    # So that a signal unwinds the stack, which stops whatever was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = parse(doc)
    try:
        if options.what == "readme":
            report.write_readme()
        else:
            measure([name for name in BENCHMARKS if name not in APART] if options.what == "all" else [options.what], options)
    except BenchError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("stopped")
        return 130
    return 0
