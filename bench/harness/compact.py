"""Many small files of one table partition into few large ones, on the local disk: `olap compact`, and deltalake's own optimize
with and without an order of the rows. Each contestant gets the same table, copied; afterwards an independent reader counts its
rows. What is measured is the whole process.
"""

import shutil

from .machine import BENCH, PYTHON, BenchError, binary, say
from .session import alternate

# Commits of the table: what a few hours of ingestion leave.
SMALL_COMMITS = 64
TARGET_FILE_BYTES = 256 * 2**20
# Of the rows that are queried: all of them in one table partition would take half an hour.
ROWS_SHARE = 4


def make_lake(session, rows):
    """A local lake of one day in many small files."""
    folder = session.folder / "lake-of-small-files"
    say(f"making a lake of {rows:,} rows in {SMALL_COMMITS} commits")
    argv = [binary("make_lake"), "--lake", folder, "--rows", rows, "--days", 1, "--batch-rows", rows // SMALL_COMMITS]
    return folder, session.run(argv, "make-lake", limit=3600).result()


def sizes(session, lake):
    """Rows, files and bytes of a table, as an independent reader sees them."""
    return session.run([PYTHON, BENCH / "peers/table.py", "rows", lake / "logins"], "files", limit=600).result()


def once(session, lake, rows, program):
    """One contestant on a copy of the table."""
    copy = session.folder / session.name("copy")
    shutil.copytree(lake, copy)
    try:
        if program == "olap compact":
            argv = [binary("olap"), "compact", "--all", "--table", "logins", "--lake", copy, "--log-format", "json"]
            argv += ["--target-file-bytes", TARGET_FILE_BYTES]
        else:
            argv = [PYTHON, BENCH / "peers/compact.py", program, "--table", copy / "logins"]
            argv += ["--target-file-bytes", TARGET_FILE_BYTES]
        measured = session.run(argv, program.replace(" ", "-"), limit=3600)
        left = sizes(session, copy)
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    if left["rows"] != rows:
        raise BenchError(f"{program}: of {rows} rows {left['rows']} are left")
    return {
        "rows_per_second": rows / measured.wall_seconds,
        "seconds": measured.wall_seconds,
        "cpu_seconds_per_million": measured.cpu_seconds / rows * 1e6,
        "peak_mib": measured.peak_bytes / 2**20,
        "files": left["files"],
        "bytes": left["bytes"],
    }


def bench(session):
    """The whole benchmark."""
    rows = session.options.rows // ROWS_SHARE
    lake, made = make_lake(session, rows)
    before = sizes(session, lake)
    programs = {name: name for name in ("olap compact", "compact", "z_order")}
    results = alternate(programs, session.options.runs, lambda _, program: once(session, lake, rows, program))
    return session.result(
        "compact", rows=rows, lake=made, before=before, runs=session.options.runs, contestants=results
    )
