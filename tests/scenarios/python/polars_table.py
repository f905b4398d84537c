"""Polars on a Delta table: the rows of a query in which the table is called t, as one JSON array of arrays.

polars_table.py TABLE_URI SQL
"""

import json
import os
import sys

import polars


def main() -> None:
    uri, sql = sys.argv[1:]
    options = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    table = polars.scan_delta(uri, storage_options=options or None)
    rows = polars.SQLContext(t=table).execute(sql).collect().rows()
    json.dump(rows, sys.stdout, default=str)


main()
