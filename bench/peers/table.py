"""A look at a Delta table that goes past our own code: `table.py rows URI` counts its rows, `table.py sizes URI` also weighs
its files, and what pyarrow writes for the same rows at zstd level 3 with everything else as it comes, one file for each table
partition. S3 settings come from the AWS_* variables. Prints one JSON object.
"""

import json
import sys

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
from deltalake import DeltaTable


def partition_filters(actions):
    """One filter for each table partition, and one that takes all when there are none."""
    names = [name for name in actions.column_names if name.startswith("partition.")]
    rows = {tuple(row[name] for name in names) for row in actions.select(names).to_pylist()} if names else set()
    if not rows:
        return [None]
    filters = []
    for row in sorted(rows):
        conditions = [
            pyarrow.dataset.field(name.removeprefix("partition.")) == value for name, value in zip(names, row, strict=True)
        ]
        expression = conditions[0]
        for condition in conditions[1:]:
            expression = expression & condition
        filters.append(expression)
    return filters


def pyarrow_bytes(table, actions):
    """Bytes of the same rows as pyarrow writes them."""
    dataset = table.to_pyarrow_dataset()
    partitioned_by = {name.removeprefix("partition.") for name in actions.column_names if name.startswith("partition.")}
    columns = [name for name in dataset.schema.names if name not in partitioned_by]
    total = 0
    for expression in partition_filters(actions):
        sink = pa.BufferOutputStream()
        rows = dataset.to_table(columns=columns, filter=expression)
        pa.parquet.write_table(rows, sink, compression="zstd", compression_level=3)
        total += sink.getvalue().size
    return total


def main():
    what, uri = sys.argv[1:]
    table = DeltaTable(uri)
    actions = pa.table(table.get_add_actions(flatten=True))
    result = {
        "rows": sum(actions.column("num_records").to_pylist()),
        "files": actions.num_rows,
        "bytes": sum(actions.column("size_bytes").to_pylist()),
    }
    if what == "sizes":
        result["pyarrow_zstd_3_bytes"] = pyarrow_bytes(table, actions)
    print(json.dumps(result))


main()
