"""The project's queries by other engines, over the Parquet files that the table's log names.

DuckDB runs the SQL file as it stands; objects on S3 it reads through pyarrow, because its own extension for them is not on
PyPI. Polars reads them itself. Polars does not take all of its syntax, so it has the same two queries in its own terms.
Prints one JSON object: the rows, and the seconds of the query alone, from opening the Parquet files to the whole answer in
memory. Reading the log and importing the engine are not part of them.
"""

import argparse
import json
import os
import pathlib
import re
import time

from deltalake import DeltaTable


def arrow_dataset(files):
    """The objects as a dataset that pushes columns and filters down. Partition columns are in their names."""
    import pyarrow.dataset
    from pyarrow.fs import S3FileSystem

    address = os.environ["AWS_ENDPOINT_URL"]
    store = S3FileSystem(
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        region=os.environ["AWS_REGION"],
        endpoint_override=address.partition("://")[2],
        scheme=address.partition("://")[0],
    )
    names = [name.removeprefix("s3://") for name in files]
    return pyarrow.dataset.dataset(names, filesystem=store, format="parquet", partitioning="hive")


def duckdb_rows(files, sql):
    import duckdb

    on_s3 = files[0].startswith("s3://")
    if on_s3:
        import pyarrow.dataset  # noqa: F401  Imports are not part of the time.
    started = time.perf_counter()
    connection = duckdb.connect()
    if on_s3:
        connection.register("logins", arrow_dataset(files))
    else:
        names = ", ".join("'" + name.replace("'", "''") + "'" for name in files)
        connection.execute(f"CREATE VIEW logins AS SELECT * FROM read_parquet([{names}], hive_partitioning = true)")
    # The parameters without a value, as `olap query` has them when none is given.
    result = connection.execute(sql, {name: None for name in set(re.findall(r"\$(\w+)", sql))})
    columns = [column[0] for column in result.description]
    rows = result.fetchall()
    seconds = time.perf_counter() - started
    return [dict(zip(columns, row, strict=True)) for row in rows], seconds


def polars_top_regions(logins, pl):
    counts = logins.group_by("region", "division").agg(pl.len().alias("logins"))
    totals = counts.with_columns(
        region_logins=pl.col("logins").sum().over("region"), all_logins=pl.col("logins").sum()
    ).sort("region_logins", "region", "logins", "division", descending=[True, False, True, False])
    return totals.select(
        region_rank=(pl.col("region") != pl.col("region").shift()).fill_null(True).cum_sum(),
        region="region",
        region_logins="region_logins",
        region_share=pl.col("region_logins") / pl.col("all_logins"),
        division_rank=pl.int_range(1, pl.len() + 1).over("region"),
        division="division",
        logins="logins",
        share=pl.col("logins") / pl.col("all_logins"),
    )


def polars_peak_hours(logins, pl):
    hours = logins.group_by("login_hour", "local_hour").agg(pl.len().alias("logins"))

    def ranked(column, clock):
        by_hour = hours.filter(pl.col(column).is_not_null()).group_by(column).agg(pl.col("logins").sum())
        by_hour = by_hour.sort("logins", column, descending=[True, False])
        return by_hour.select(
            pl.int_range(1, pl.len() + 1).alias("rank"),
            pl.col(column).alias(f"{clock}_hour"),
            pl.col("logins").alias(f"{clock}_logins"),
            (pl.col("logins") / pl.col("logins").sum()).alias(f"{clock}_share"),
        )

    both = ranked("login_hour", "utc").join(ranked("local_hour", "local"), on="rank", how="full", coalesce=True)
    return both.sort("rank")


def polars_rows(files, query):
    import polars as pl

    queries = {"top_regions": polars_top_regions, "peak_hours": polars_peak_hours}
    started = time.perf_counter()
    logins = pl.scan_parquet(files, storage_options=store_options() if files[0].startswith("s3://") else None)
    answer = queries[query](logins, pl).collect(engine="streaming")
    rows = answer.to_dicts()
    return rows, time.perf_counter() - started


def store_options():
    """The variables that any S3 client takes."""
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=["duckdb", "polars"])
    parser.add_argument("--table", required=True)
    parser.add_argument("--sql", required=True, type=pathlib.Path)
    options = parser.parse_args()
    files = [uri.removeprefix("file://") for uri in DeltaTable(options.table, storage_options=store_options()).file_uris()]
    if options.engine == "duckdb":
        rows, seconds = duckdb_rows(files, options.sql.read_text())
    else:
        rows, seconds = polars_rows(files, options.sql.stem)
    print(json.dumps({"rows": rows, "seconds": seconds}, default=str))


main()
