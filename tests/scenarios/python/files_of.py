"""The files that the newest version of a Delta table names, as paths in its folder, read without any of this project's code.

files_of.py TABLE_URI    prints a JSON array.
"""

import json
import os
import sys

import deltalake


def main() -> None:
    uri = sys.argv[1]
    options = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    table = deltalake.DeltaTable(uri, storage_options=options)
    name = f"/{uri.rstrip('/').rsplit('/', 1)[1]}/"
    json.dump(sorted(found.split(name, 1)[1] for found in table.file_uris()), sys.stdout)


main()
