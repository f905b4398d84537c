"""Is the batch view what its files and its log say, and is it all of `logins`? Read without any of this project's code: deltalake
finds the files, pyarrow reads the footers, DuckDB counts.

hourly_view.py LAKE    a local lake with the files of its older versions. Prints a JSON object: rows, logins, files, row_groups,
                       dates, and wrong: an array of sentences, empty when all is right.
"""

import json
import os
import pathlib
import sys

import deltalake
import duckdb
import pyarrow.compute as compute
import pyarrow.parquet as parquet

DIMENSIONS = "login_date, login_hour, local_hour, time_of_day, region, locale, device_type, app_version"


def differences(logins, view) -> list:
    """Groups of which the view has another number of logins than there are."""
    connection = duckdb.connect()
    connection.register("logins", logins.to_pyarrow_table())
    connection.register("hourly", view.to_pyarrow_table())
    return connection.execute(
        f"""
        SELECT {DIMENSIONS}, sum(signed) AS difference
        FROM (
            SELECT {DIMENSIONS}, 1 AS signed FROM logins
            UNION ALL
            SELECT {DIMENSIONS}, -logins FROM hourly
        )
        GROUP BY ALL HAVING difference <> 0 LIMIT 5
        """
    ).fetchall()


def date_of(path: str) -> str:
    """The date in a file's folder."""
    return path.split("login_date=")[1].split("/")[0]


def files_of(view) -> list[str]:
    """The paths of the view's files in its folder."""
    return [uri.split("/logins_hourly/", 1)[1] for uri in view.file_uris()]


def offsets_of(transactions: dict) -> dict:
    """Kafka partition to next offset, of the application ids of ingestion."""
    found = {}
    for app_id, version in transactions.items():
        last = app_id.rsplit("/", 1)[-1]
        if last.isdigit() and "maintenance" not in app_id:
            found[int(last)] = version
    return found


def row_groups(lake: pathlib.Path, view, wrong: list) -> tuple[int, int, int]:
    """Each row group counts all logins of its date below the offsets that it names, and no others."""
    groups = total = 0
    by_version, dates = {}, {}
    for path in files_of(view):
        with parquet.ParquetFile(lake / "logins_hourly" / path) as file:
            said = {key.decode(): value.decode() for key, value in (file.metadata.metadata or {}).items()}
            version = int(said["loginlake.logins-version"])
            offsets = offsets_of(json.loads(said["loginlake.offsets"]))
            counted = 0
            for group in range(file.num_row_groups):
                counted += compute.sum(file.read_row_group(group, columns=["logins"])["logins"]).as_py()
            groups += file.num_row_groups
        total += counted
        dates.setdefault((date_of(path), version, json.dumps(offsets, sort_keys=True)), []).append(counted)
    for (date, version, offsets), counted in dates.items():
        if version not in by_version:
            by_version[version] = deltalake.DeltaTable(str(lake / "logins"), version=version).to_pyarrow_table(
                columns=["login_date", "kafka_partition", "kafka_offset"]
            )
        connection = duckdb.connect()
        connection.register("logins", by_version[version])
        rows = connection.execute(
            "SELECT kafka_partition, count(*), max(kafka_offset) FROM logins WHERE login_date = CAST(? AS DATE) GROUP BY 1", [date]
        ).fetchall()
        limits = {int(partition): offset for partition, offset in json.loads(offsets).items()}
        for partition, _, newest in rows:
            if newest >= limits.get(partition, -1):
                wrong.append(f"{date} says up to {limits.get(partition)} of partition {partition}, and version {version} has {newest}")
        if sum(count for _, count, _ in rows) != sum(counted):
            wrong.append(f"{date} counts {sum(counted)}, and version {version} of logins has {sum(count for _, count, _ in rows)}")
    return groups, total, len({date for date, _, _ in dates})


def main() -> None:
    lake = pathlib.Path(sys.argv[1])
    logins, view = deltalake.DeltaTable(str(lake / "logins")), deltalake.DeltaTable(str(lake / "logins_hourly"))
    wrong = [f"another count by {row}" for row in differences(logins, view)]
    groups, total, dates = row_groups(lake, view, wrong)
    rows = logins.to_pyarrow_table(columns=["login_date"]).num_rows
    if rows != total:
        wrong.append(f"the view counts {total} logins, and there are {rows}")
    result = {"rows": rows, "logins": total, "files": len(files_of(view)), "row_groups": groups, "dates": dates, "wrong": wrong}
    json.dump(result, sys.stdout)


main()
# Arrow's threads may still give buffers back: that must not meet an interpreter that is going down, or it aborts.
sys.stdout.flush()
os._exit(0)
