"""How often each Kafka offset is in a lake, counted without any of this project's code: deltalake finds the files, DuckDB counts.

count_positions.py LAKE_URI VERSION LIMITS    logins at that version, and rejected as it is now; LIMITS is a JSON object, Kafka
                                              partition to offset: rejected rows from there on are left out. Prints a JSON
                                              array of [partition, rows, distinct offsets, smallest, largest].
"""

import json
import os
import sys

import deltalake
import duckdb

COLUMNS = ["kafka_partition", "kafka_offset"]


def main() -> None:
    lake, version, limits = sys.argv[1:]
    options = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    connection = duckdb.connect()
    for name, at in (("logins", int(version)), ("rejected", None)):
        table = deltalake.DeltaTable(f"{lake}/{name}", version=at, storage_options=options)
        connection.register(name, table.to_pyarrow_table(columns=COLUMNS))
    below = [(int(partition), offset) for partition, offset in json.loads(limits).items()]
    connection.execute("CREATE TABLE below (partition INTEGER, next BIGINT)")
    connection.executemany("INSERT INTO below VALUES (?, ?)", below)
    rows = connection.execute(
        """
        SELECT kafka_partition, count(*), count(DISTINCT kafka_offset), min(kafka_offset), max(kafka_offset)
        FROM (
            SELECT kafka_partition, kafka_offset FROM logins
            UNION ALL
            SELECT kafka_partition, kafka_offset FROM rejected JOIN below ON partition = kafka_partition
            WHERE kafka_offset < next
        )
        GROUP BY kafka_partition
        """
    ).fetchall()
    json.dump(rows, sys.stdout)


main()
# Arrow's threads may still give buffers back: that must not meet an interpreter that is going down, or it aborts.
sys.stdout.flush()
os._exit(0)
