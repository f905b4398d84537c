"""The peer of `olap compact`: deltalake's own optimize on the same table. `compact` joins small files as their rows come;
`z_order` also puts the rows in an order, as ours does. Prints one JSON object: seconds of the operation alone, and its metrics.
"""

import argparse
import json
import time

from deltalake import DeltaTable

SORTED_BY = ["region", "device_type", "event_time"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("operation", choices=["compact", "z_order"])
    parser.add_argument("--table", required=True)
    parser.add_argument("--target-file-bytes", type=int, required=True)
    options = parser.parse_args()
    table = DeltaTable(options.table)
    begun = time.perf_counter()
    if options.operation == "compact":
        metrics = table.optimize.compact(target_size=options.target_file_bytes)
    else:
        metrics = table.optimize.z_order(SORTED_BY, target_size=options.target_file_bytes)
    seconds = time.perf_counter() - begun
    print(json.dumps({"seconds": seconds, "metrics": metrics}, default=str))


if __name__ == "__main__":
    main()
