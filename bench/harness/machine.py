"""Where things are in this checkout, and what a reader of the results has to know of the machine."""

import os
import pathlib
import platform
import re
import socket
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]
BENCH = TOP / "bench"
PARTS = TOP / ".parts"
RESULTS = BENCH / "results"
PYTHON = PARTS / "bench-py" / "bin" / "python"
PROFILE = os.environ.get("BENCH_PROFILE", "release")
STATES = TOP / "data" / "us_states.csv"


class BenchError(Exception):
    """A benchmark that cannot be run, or whose result would be wrong; the text says what to do."""


def say(text):
    """Progress, for whoever watches."""
    print(text, file=sys.stderr, flush=True)


def binary(name):
    """One of our binaries."""
    return TOP / "target" / PROFILE / name


def free_port():
    """A port of loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def clean_environment(extra=None):
    """The environment without what would change the settings of a contestant."""
    unwanted = ("LOGINLAKE_", "AWS_", "RUST_LOG", "KAFKA_", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}
    return kept | (extra or {})


def pinned_versions():
    """The versions of the parts, as the files say that install them."""
    versions = dict(re.findall(r"^(\w+)_VERSION=(\S+)$", (TOP / "tests/parts/versions").read_text(), re.M))
    python = dict(re.findall(r"^([\w-]+)==(\S+)$", (BENCH / "requirements.txt").read_text(), re.M))
    return {"kafka": versions["KAFKA"], "minio": re.sub(r"^.*-(\d{8})\d*-.*$", r"\1", versions["MINIO"])} | python


def facts():
    """Cores, memory and versions; no names and no paths."""
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=False).stdout.split()
    java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "load_at_start": round(os.getloadavg()[0], 2),
        "profile": PROFILE,
        "rustc": rustc[1] if len(rustc) > 1 else "unknown",
        "java": (re.findall(r'version "([^"]+)"', java) or ["none"])[0],
        "python": platform.python_version(),
    } | pinned_versions()
