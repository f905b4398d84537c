"""A look at a Delta table that goes past our own code: `table.py rows URI` counts rows, files and bytes, `table.py sizes URI`
also weighs what pyarrow writes for the same rows in the same order at zstd level 3 with everything else as it comes, one file
for each table partition. `table.py columns URI` says what each column takes in our files and in pyarrow's, in bytes a row.
S3 settings come from the AWS_* variables. Prints one JSON object.
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


def pyarrow_files(table, actions):
    """The same rows as pyarrow writes them, file by file."""
    dataset = table.to_pyarrow_dataset()
    partitioned_by = {name.removeprefix("partition.") for name in actions.column_names if name.startswith("partition.")}
    columns = [name for name in dataset.schema.names if name not in partitioned_by]
    for expression in partition_filters(actions):
        sink = pa.BufferOutputStream()
        rows = dataset.to_table(columns=columns, filter=expression)
        pa.parquet.write_table(rows, sink, compression="zstd", compression_level=3)
        yield sink.getvalue()


def column_bytes(files, rows):
    """Compressed bytes a row of each column, over all files."""
    totals = {}
    for file in files:
        metadata = pa.parquet.ParquetFile(file).metadata
        for group in range(metadata.num_row_groups):
            for index in range(metadata.num_columns):
                column = metadata.row_group(group).column(index)
                totals[column.path_in_schema] = totals.get(column.path_in_schema, 0) + column.total_compressed_size
    return {name: round(total / rows, 3) for name, total in totals.items()}


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
        result["pyarrow_zstd_3_bytes"] = sum(file.size for file in pyarrow_files(table, actions))
    elif what == "columns":
        dataset = table.to_pyarrow_dataset()
        ours = (dataset.filesystem.open_input_file(path) for path in dataset.files)
        result["columns"] = column_bytes(ours, result["rows"])
        result["pyarrow_zstd_3_columns"] = column_bytes(map(pa.BufferReader, pyarrow_files(table, actions)), result["rows"])
    print(json.dumps(result))


main()
