"""Everything that is run, put in place once: the parts of the tests, the peers, our binaries. Each peer is made beside its
place and moved into it whole, so that an interrupted run leaves nothing half made."""

import hashlib
import shutil
import subprocess
import sys

from .machine import BENCH, PARTS, PROFILE, TOP, BenchError, pinned_versions, say

KAFKA_CLASSES = str(PARTS / "kafka/libs/*")
STREAMS_CLASSES = f"{PARTS}/streams/classes:{PARTS}/streams/libs/*"


def command(argv, what):
    """Runs an installer; its output is shown when it fails only."""
    try:
        done = subprocess.run([str(part) for part in argv], cwd=TOP, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BenchError(f"{what}: there is no {argv[0]} in PATH") from error
    if done.returncode != 0:
        raise BenchError(f"{what} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def part(name, inputs, build):
    """Makes `.parts/NAME` by `build(folder)`, unless it is there and was made from the same inputs."""
    stamp = hashlib.sha256("\n".join(inputs).encode()).hexdigest()
    place, scratch = PARTS / name, PARTS / f".new-{name}"
    if (place / ".stamp").is_file() and (place / ".stamp").read_text() == stamp:
        return
    say(f"installing {name}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    build(scratch)
    (scratch / ".stamp").write_text(stamp)
    shutil.rmtree(place, ignore_errors=True)
    scratch.rename(place)


def real_parts(*names):
    """Kafka and MinIO, by the script of the tests."""
    told = command([TOP / "tests/parts/install", *names], "tests/parts/install")
    missing = [line for line in told.splitlines() if line.startswith("not run:")]
    if missing:
        raise BenchError("\n".join(missing))


def streams():
    """Kafka Streams, its jars and our application for it."""
    source, pom = BENCH / "streams/LoginStreams.java", BENCH / "streams/pom.xml"

    def build(folder):
        copy = ["mvn", "--batch-mode", "--quiet", "-f", pom, f"-Dkafka.version={pinned_versions()['kafka']}"]
        command([*copy, "dependency:copy-dependencies", f"-DoutputDirectory={folder}/libs"], "fetching Kafka Streams")
        command(["javac", "-Xlint:all", "-cp", f"{folder}/libs/*", "-d", folder / "classes", source], "javac")

    part("streams", [source.read_text(), pom.read_text(), pinned_versions()["kafka"]], build)


def python_peers():
    """The Python environment of the peers. Its scripts name their folder, so it is made in place."""
    requirements = BENCH / "requirements.txt"
    place = PARTS / "bench-py"
    stamp = sys.version + requirements.read_text()
    if (place / ".stamp").is_file() and (place / ".stamp").read_text() == stamp:
        return
    say("installing bench-py")
    shutil.rmtree(place, ignore_errors=True)
    command([sys.executable, "-m", "venv", place], "making a Python environment")
    pip = [place / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]
    command(pip, "installing the Python peers")
    (place / ".stamp").write_text(stamp)


def binaries():
    """Our binaries, in the profile that is measured."""
    say(f"building our binaries ({PROFILE})")
    packages = ["loginlake-bench", "loginlake-generator", "loginlake-olap", "loginlake-realtime"]
    flags = {"release": ["--release"], "debug": []}.get(PROFILE)
    if flags is None:
        raise BenchError(f"BENCH_PROFILE={PROFILE} is not a profile: release or debug")
    argv = ["cargo", "build", "--locked", "--bins", *flags]
    for package in packages:
        argv += ["-p", package]
    # Cargo's own progress is worth seeing: a cold build takes many minutes.
    if subprocess.run(argv, cwd=TOP, stdout=sys.stderr, check=False).returncode != 0:
        raise BenchError("our binaries do not build")
