"""Rows of a Delta table, read without any of this project's code: deltalake finds the files, DuckDB runs the SQL.

read_table.py TABLE_URI SQL [VERSION]    the table is called t in the SQL; the rows come out as one JSON array of
                                         arrays, null when there is no such table
"""

import json
import os
import sys

import deltalake
import duckdb


def main() -> None:
    uri, sql, *version = sys.argv[1:]
    options = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    if not deltalake.DeltaTable.is_deltatable(uri, storage_options=options):
        json.dump(None, sys.stdout)
        return
    table = deltalake.DeltaTable(uri, version=int(version[0]) if version else None, storage_options=options)
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("t", table.to_pyarrow_dataset())
    json.dump(connection.execute(sql).fetchall(), sys.stdout, default=str)
    # Arrow's threads may still give buffers back: that must not meet things that are being taken down, or it aborts.
    sys.stdout.flush()
    os._exit(0)


main()
