"""What the benchmarks of one run share: broker, store, the input topic and its records, and a folder for all of it."""

import contextlib
import datetime
import itertools
import pathlib
import shutil
import statistics
import tempfile

from . import process, services
from .machine import PARTS, BenchError, binary, say

SEED = 7
PARTITIONS = 4
INPUT_TOPIC = "user-login"
# No server; the log in the form that `Measured.seconds_between` reads.
QUIET_SERVICE = ["--http", "none", "--log-format", "json"]


class Session:
    """A run of the benchmarks."""

    def __init__(self, options, about, folder, stack):
        self.options = options
        self.folder = folder
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.facts = about
        self.started = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._stack = stack
        self._numbers = itertools.count(1)
        self._brokers = self._minio = None
        self._input_records = 0

    def name(self, text):
        """A name that nothing had before: consumer groups, topics, buckets, log files."""
        return f"{text}-{next(self._numbers)}"

    def run(self, argv, name, **options):
        """Runs and measures a program; see `process.run`."""
        return process.run(argv, self.logs, self.name(name), **options)

    def service(self, argv, name, **options):
        """Keeps a program running; see `process.service`."""
        return process.service(argv, self.logs, self.name(name), **options)

    @property
    def brokers(self):
        """The broker, started when it is first asked for."""
        if self._brokers is None:
            say("starting Kafka")
            self._brokers = self._stack.enter_context(services.kafka(self.folder / "kafka"))
        return self._brokers

    @property
    def minio(self):
        """The object store, started when it is first asked for."""
        if self._minio is None:
            say("starting MinIO")
            self._minio = self._stack.enter_context(services.minio(self.folder / "minio"))
        return self._minio

    def create_topics(self, *names):
        """Makes topics of four partitions."""
        argv = [binary("topics"), "--brokers", self.brokers, "create", "--partitions", PARTITIONS, *names]
        self.run(argv, "create-topics", limit=60)

    def delete_topics(self, *names):
        """Removes topics, so that the disk does not fill with what was checked already."""
        self.run([binary("topics"), "--brokers", self.brokers, "delete", *names], "delete-topics", limit=60)

    @contextlib.contextmanager
    def topics(self, *names):
        """New topics inside of the `with`; their names in the order of `names`."""
        fresh = [self.name(name) for name in names]
        self.create_topics(*fresh)
        yield fresh
        self.delete_topics(*fresh)

    def backlog(self):
        """The input topic, filled once; returns the number of its records."""
        if not self._input_records:
            count = self.options.records
            say(f"producing {count:,} records")
            self.create_topics(INPUT_TOPIC)
            argv = [binary("generate"), "--brokers", self.brokers, "--input-topic", INPUT_TOPIC]
            self.run([*argv, "--count", count, "--seed", SEED, "--rate", 0], "generate", limit=1800)
            if self.count(INPUT_TOPIC) != count:
                raise BenchError(f"{INPUT_TOPIC} does not hold the {count} records that were produced")
            self._input_records = count
        return self._input_records

    def count(self, topic):
        """Records of a topic, as a read_committed reader gets them."""
        argv = [binary("raw_read"), "--brokers", self.brokers, "--group-id", self.name("count"), "--topic", topic]
        return self.run(argv, "count", limit=300).result()["records"]

    def result(self, benchmark, **fields):
        """A result as it is kept."""
        return {"benchmark": benchmark, "started": self.started, "machine": self.facts} | fields


@contextlib.contextmanager
def open_session(options, about):
    """A session; whatever it started has ended, and its folder is gone, afterwards."""
    PARTS.mkdir(exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix=".bench-", dir=PARTS))
    try:
        with contextlib.ExitStack() as stack:
            yield Session(options, about, folder, stack)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def alternate(contestants, runs, once):
    """Runs each contestant `runs` times in alternation, so that a machine that slows down does it to all of them. Returns
    the samples and their medians, by contestant."""
    samples = {name: [] for name in contestants}
    for number in range(1, runs + 1):
        for name, contestant in contestants.items():
            sample = once(name, contestant)
            say(f"  run {number}/{runs}  {name}: " + ", ".join(f"{key} {value:,.2f}" for key, value in sample.items()))
            samples[name].append(sample)
    return {name: {"samples": taken, "median": medians(taken)} for name, taken in samples.items()}


def medians(samples):
    """The median of each figure; of those that every sample has."""
    figures = [key for key in samples[0] if all(key in sample for sample in samples)]
    return {key: statistics.median(sample[key] for sample in samples) for key in figures}


def figures(measured, records, seconds):
    """What is kept of a process that handled `records` in `seconds`."""
    return {
        "records_per_second": records / seconds,
        "cpu_seconds_per_million": measured.cpu_seconds / records * 1e6,
        "peak_mib": measured.peak_bytes / 2**20,
        "seconds": seconds,
        "whole_process_seconds": measured.wall_seconds,
    }
