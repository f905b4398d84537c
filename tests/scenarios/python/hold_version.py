"""A reader that takes its time: deltalake opens a version of a table, and its rows are read much later.

hold_version.py TABLE_URI VERSION GO    makes GO.reached once the version is open and its files are known, waits until GO is there
                                        (five minutes at most), reads all rows and prints how many there are.
"""

import os
import pathlib
import sys
import time

import deltalake


def main() -> None:
    uri, version, go = sys.argv[1:]
    options = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    dataset = deltalake.DeltaTable(uri, version=int(version), storage_options=options).to_pyarrow_dataset()
    pathlib.Path(f"{go}.reached").touch()
    until = time.monotonic() + 300
    while not pathlib.Path(go).exists() and time.monotonic() < until:
        time.sleep(0.05)
    print(dataset.to_table().num_rows, flush=True)
    # The answer is given. Threads of the libraries that are still there at the interpreter's end can abort it.
    os._exit(0)


main()
