"""A table with a long log: what it costs to open it. The log is that of an ingester which commits every few seconds and of a
compactor that replaces its files: one file is alive, all others are tombstones in the checkpoint. `olap query` answers a
`count(*)` from the log alone; deltalake opens the same table, its start and imports left out.
"""

import json
import time
import uuid

from .machine import BENCH, PYTHON, BenchError, binary, say
from .query import make_lake
from .session import alternate

COMMITS = 100_000
ROWS = 1_000
# As many commits lie behind the checkpoint as can at most.
BEHIND_CHECKPOINT = 99
QUESTION = "SELECT count(*) AS logins FROM logins"


def lengthen(log, commits):
    """Appends commits in each of which a file replaces the one before; the last brings back the file that exists."""
    newest = max(int(path.stem) for path in log.glob("*.json"))
    actions = [json.loads(line) for line in (log / f"{newest:020}.json").read_text().splitlines()]
    add = next(action["add"] for action in actions if "add" in action)
    kept = [action for action in actions if "commitInfo" in action or "txn" in action]
    now_ms = int(time.time() * 1e3)
    before = add["path"]
    for number in range(1, commits + 1):
        name = f"{add['path'].rsplit('/', 1)[0]}/part-{uuid.UUID(int=number)}.zstd.parquet"
        path = add["path"] if number == commits else name
        remove = {
            "path": before,
            "deletionTimestamp": now_ms,
            "dataChange": False,
            "extendedFileMetadata": True,
            "partitionValues": add["partitionValues"],
            "size": add["size"],
        }
        lines = [*kept, {"remove": remove}, {"add": add | {"path": path, "modificationTime": now_ms, "dataChange": False}}]
        text = "\n".join(json.dumps(line, separators=(",", ":")) for line in lines) + "\n"
        (log / f"{newest + number:020}.json").write_text(text)
        before = path
    return newest + commits


def bench(session):
    """The whole benchmark."""
    lakes = {}
    local, _ = make_lake(session, "lake-commits", ROWS, 1)
    say(f"writing {COMMITS:,} commits")
    lengthen(local / "logins/_delta_log", COMMITS - BEHIND_CHECKPOINT)
    checkpoint = "import sys; from deltalake import DeltaTable; DeltaTable(sys.argv[1]).create_checkpoint()"
    session.run([PYTHON, "-c", checkpoint, local / "logins"], "checkpoint")
    version = lengthen(local / "logins/_delta_log", BEHIND_CHECKPOINT)
    lakes["local disk"] = str(local)
    say("copying it to MinIO")
    session.minio.make_bucket("commits")
    environment = session.minio.environment()
    copy = [PYTHON, BENCH / "peers/copy_table.py", local / "logins", "s3://commits/lake/logins"]
    session.run(copy, "copy", environment=environment, limit=3600)
    lakes["MinIO"] = "s3://commits/lake"

    def run(name, which):
        lake, program = which
        environment = session.minio.environment() if lake.startswith("s3://") else None
        if program == "deltalake":
            argv = [PYTHON, BENCH / "peers/open_table.py", f"{lake}/logins"]
            measured = session.run(argv, "open-table", environment=environment)
            opened = measured.result()
            if opened["version"] != version:
                raise BenchError(f"{name}: version {opened['version']} instead of {version}")
            extra = {"open_ms": opened["seconds"] * 1e3}
        else:
            argv = [binary("olap"), "query", "-e", QUESTION, "--lake", lake, "--format", "json", "-q"]
            measured = session.run(argv, "olap-count", environment=environment)
            if json.loads(measured.stdout) != [{"logins": ROWS}]:
                raise BenchError(f"{name}: {measured.stdout}")
            extra = {}
        return extra | {"process_ms": measured.wall_seconds * 1e3, "peak_mib": measured.peak_bytes / 2**20}

    contestants = {
        f"{where}, {program}": (lake, program) for where, lake in lakes.items() for program in ("olap query", "deltalake")
    }
    results = alternate(contestants, session.options.runs, run)
    return session.result(
        "commits", commits=version + 1, behind_checkpoint=BEHIND_CHECKPOINT, runs=session.options.runs, contestants=results
    )
