"""Makes a Delta table with a schema that is not one of this project's: write_foreign_table.py TABLE_URI"""

import os
import sys

import deltalake
import pyarrow


def main() -> None:
    (uri,) = sys.argv[1:]
    options = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    deltalake.write_deltalake(uri, pyarrow.table({"colour": ["red", "blue"]}), storage_options=options)


main()
