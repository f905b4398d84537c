"""Damages a Delta table as another software could, without any of this project's code.

damage_table.py TABLE_URI OPERATION PARTITION OFFSET    of the row at that position of Kafka:
    take      it is deleted, and its file rewritten
    double    it is written once more
    move      it stands a day later than its event time says
    change    its field device_type is another one, or, in rejected, its field reason
    lose      its file is gone from the folder (a local one)
"""

import datetime
import os
import sys
import urllib.parse

import deltalake
import pyarrow
import pyarrow.compute
import pyarrow.parquet


def rows_at(table, partition, offset):
    """The row, and the file that it is in."""
    rows = table.to_pyarrow_dataset().to_table(
        filter=(pyarrow.compute.field("kafka_partition") == partition)
        & (pyarrow.compute.field("kafka_offset") == offset)
    )
    if rows.num_rows != 1:
        raise SystemExit(f"{rows.num_rows} rows at {partition}/{offset}")
    return rows


def file_of(table, partition, offset):
    """The data file with the row."""
    for file in table.file_uris():
        path = urllib.parse.unquote(file.removeprefix("file://"))
        rows = pyarrow.parquet.read_table(path, columns=["kafka_partition", "kafka_offset"], partitioning=None)
        at = zip(rows["kafka_partition"].to_pylist(), rows["kafka_offset"].to_pylist())
        if (partition, offset) in at:
            return path
    raise SystemExit(f"no file has {partition}/{offset}")


def main() -> None:
    uri, operation, partition, offset = sys.argv[1:]
    partition, offset = int(partition), int(offset)
    table = deltalake.DeltaTable(uri)
    here = f"kafka_partition = {partition} AND kafka_offset = {offset}"
    row = rows_at(table, partition, offset)
    if operation == "take":
        table.delete(here)
    elif operation == "double":
        deltalake.write_deltalake(table, row, mode="append")
    elif operation == "move":
        later = [day + datetime.timedelta(days=1) for day in row["login_date"].to_pylist()]
        index = row.schema.get_field_index("login_date")
        moved = row.set_column(index, row.schema.field(index), pyarrow.array(later, row.schema.field(index).type))
        table.delete(here)
        deltalake.write_deltalake(table, moved, mode="append")
    elif operation == "change":
        column = "device_type" if "device_type" in row.schema.names else "reason"
        table.update(updates={column: "'changed'"}, predicate=here)
    elif operation == "lose":
        os.remove(file_of(table, partition, offset))
    else:
        raise SystemExit(f"no such operation: {operation}")


main()
# Arrow's threads may still give buffers back: that must not meet an interpreter that is going down, or it aborts.
sys.stdout.flush()
os._exit(0)
