"""Programs: run to the end and measured, or kept running and stopped. Each is ended by its own process id, in bounded time."""

import calendar
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time

from .machine import BenchError, clean_environment

SAMPLE_SECONDS = 0.1
# ru_maxrss is in KiB, except on macOS.
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclasses.dataclass
class Measured:
    """What a process took from its start to its end, its threads included."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    stdout: str
    stderr: str

    def result(self):
        """The JSON object on the last line of stdout."""
        try:
            return json.loads(self.stdout.strip().splitlines()[-1])
        except (IndexError, ValueError) as error:
            raise BenchError(f"no JSON object at the end of the output: {self.stdout[-500:]!r}") from error

    def seconds_between(self, first, last):
        """Seconds between two messages of a JSON log on stderr, by the log's own time, and the fields of the later one."""
        times = {}
        for line in self.stderr.splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                message = entry.get("message")
                if message == last or (message == first and first not in times):
                    times[message] = entry
        if first not in times or last not in times:
            raise BenchError(f"the log does not say {first!r} and {last!r}: {self.stderr[-500:]!r}")
        begin, end = (epoch(times[message]["timestamp"]) for message in (first, last))
        return end - begin, times[last]


def epoch(text):
    """Epoch seconds of an RFC 3339 time in UTC, with whatever fraction."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = time.strptime(whole, "%Y-%m-%dT%H:%M:%S")
    return calendar.timegm(seconds) + float(f"0.{fraction or 0}")


def tail(path):
    """The end of a log file, for an error."""
    return path.read_text(errors="replace")[-2000:] if path.exists() else ""


def resident_bytes(pid):
    """Resident memory of a process; None where the system does not tell, or when it has ended."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") or None
    except (OSError, IndexError):
        return None


def sample(pid, started, ended, samples):
    """Appends (seconds since `started`, resident bytes) every 100 ms until `ended`, or until nobody tells."""
    while (resident := resident_bytes(pid)) is not None:
        samples.append((time.monotonic() - started, resident))
        if ended.wait(SAMPLE_SECONDS):
            return


def run(argv, log_dir, name, *, environment=None, limit=900, cwd=None, samples=None):
    """Runs a program to its end and measures it. Failure or more than `limit` seconds is an error. `samples` is a list that
    gets its resident memory over time."""
    out_path, err_path = log_dir / f"{name}.out", log_dir / f"{name}.err"
    with open(out_path, "wb") as out, open(err_path, "wb") as err:
        started = time.monotonic()
        child = subprocess.Popen(
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=clean_environment(environment),
            cwd=cwd,
        )
        expired, ended = threading.Event(), threading.Event()

        def expire():
            expired.set()
            child.kill()

        timer = threading.Timer(limit, expire)
        timer.start()
        if samples is not None:
            threading.Thread(target=sample, args=(child.pid, started, ended, samples), daemon=True).start()
        try:
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            child.kill()
            child.wait()
            raise
        finally:
            timer.cancel()
            ended.set()
        wall_seconds = time.monotonic() - started
    if child.returncode != 0:
        why = f"did not end within {limit} s" if expired.is_set() else f"ended with {child.returncode}"
        raise BenchError(f"{name} {why}:\n{tail(out_path)}{tail(err_path)}")
    return Measured(
        wall_seconds=wall_seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_bytes=usage.ru_maxrss * RSS_UNIT,
        stdout=out_path.read_text(),
        stderr=err_path.read_text(errors="replace"),
    )


def wait_for(what, limit, condition, is_alive, log):
    """Waits until `condition()` is true, while `is_alive()`."""
    deadline = time.monotonic() + limit
    while not condition():
        if not is_alive():
            raise BenchError(f"{what}: the process ended:\n{tail(log)}")
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: not within {limit} s:\n{tail(log)}")
        time.sleep(0.05)


@contextlib.contextmanager
def service(argv, log_dir, name, *, environment=None, cwd=None, ready=None, ready_text=None, ready_limit=90):
    """Keeps a program running inside the `with`. It begins once `ready()` is true, or `ready_text` stands in its output."""
    log = log_dir / f"{name}.log"
    with open(log, "wb") as out:
        child = subprocess.Popen(
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=clean_environment(environment),
            cwd=cwd,
        )
    try:
        check = ready or (lambda: ready_text in log.read_text(errors="replace"))
        wait_for(f"{name} to be ready", ready_limit, check, lambda: child.poll() is None, log)
        yield child
        if child.poll() is not None:
            raise BenchError(f"{name} ended by itself with {child.returncode}:\n{tail(log)}")
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
