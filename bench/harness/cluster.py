"""`olap query --cluster` beside `olap query` alone: the project's own SQL files on a lake on MinIO, with one executor that may use
every core, and with two that share them. All of it is on one machine: what is measured is what a cluster costs; what it
gains takes more machines.

Every answer has to be the one that is given alone.
"""

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import urllib.request

from .machine import PROFILE, TOP, BenchError, binary, free_port, say
from .query import DAYS, SMALL_ROWS, make_lake
from .session import alternate

QUERIES = ("top_regions", "peak_hours_by_region", "app_versions")
VCORES = os.cpu_count() or 1
MEMORY = "2GiB"


def built():
    """`olap` with clusters, kept beside the one without."""
    return pathlib.Path(f"{binary('olap')}-cluster")


def build():
    """Builds it."""
    say(f"building olap with clusters ({PROFILE})")
    argv = ["cargo", "build", "--locked", "--workspace", "--bin", "olap", "--features", "loginlake-olap/cluster"]
    argv += ["--release"] if PROFILE == "release" else []
    if subprocess.run(argv, cwd=TOP, stdout=sys.stderr, check=False).returncode != 0:
        raise BenchError("olap with clusters does not build")
    shutil.copy2(binary("olap"), built())


def executors_of(http_port):
    """How many executors the scheduler knows; 0 while it does not answer."""
    with contextlib.suppress(OSError):
        with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/metrics", timeout=2) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith("scheduler_executors "):
                    return int(float(line.split()[1]))
    return 0


@contextlib.contextmanager
def cluster(session, lake, executors):
    """A scheduler, and executors that share the cores; gives the scheduler's address."""
    port, http_port = free_port(), free_port()
    address = f"df://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        scheduler = [built(), "scheduler", "--bind", f"127.0.0.1:{port}", "--http", f"127.0.0.1:{http_port}"]
        stack.enter_context(session.service([*scheduler, "--log-format", "text"], "scheduler", ready_text="scheduling queries"))
        for number in range(1, executors + 1):
            argv = [built(), "executor", "--scheduler", address, "--lake", lake, "--http", "none", "--log-format", "text"]
            argv += ["--bind", f"127.0.0.1:{free_port()}", "--control-port", free_port()]
            argv += ["--vcores", max(1, VCORES // executors), "--memory-limit", MEMORY]
            argv += ["--work-dir", session.folder / session.name("work")]
            ready = lambda wanted=number: executors_of(http_port) == wanted
            stack.enter_context(
                session.service(argv, "executor", environment=session.minio.environment(), ready=ready)
            )
        yield address


def bench(session):
    """The whole benchmark."""
    rows = session.options.rows
    large, made = make_lake(session, "lake-cluster", rows, DAYS, bucket="cluster")
    small, _ = make_lake(session, "lake-cluster-small", SMALL_ROWS, 1, bucket="cluster-small")
    answers = {}

    with contextlib.ExitStack() as stack:
        ways = {"alone": {large: [], small: []}}
        for name, executors in (("one executor", 1), ("two executors", 2)):
            ways[name] = {
                lake: ["--cluster", stack.enter_context(cluster(session, lake, executors))] for lake in (large, small)
            }

        def run(name, which):
            lake, query, way = which
            argv = [built(), "query", TOP / "sql" / f"{query}.sql", "--lake", lake, "--format", "csv", "-q", *ways[way][lake]]
            measured = session.run(argv, f"cluster-{query}", limit=600, environment=session.minio.environment())
            if measured.stdout != answers.setdefault((lake, query), measured.stdout):
                raise BenchError(f"{name}: another answer than alone")
            return {"process_ms": measured.wall_seconds * 1e3, "peak_mib": measured.peak_bytes / 2**20}

        contestants = {f"{query}.sql, {way}": (large, query, way) for query in QUERIES for way in ways}
        contestants |= {f"top_regions.sql on {SMALL_ROWS} rows, {way}": (small, "top_regions", way) for way in ways}
        results = alternate(contestants, session.options.runs, run)
    return session.result(
        "cluster", rows=rows, days=DAYS, lake=made, vcores=VCORES, runs=session.options.runs, contestants=results
    )
