"""The SQL files of this project in Apache Spark with Delta Lake, over the tables of a lake in a directory.

spark_sql.py JARS LAKE PARAMETERS FILE...    runs each file; PARAMETERS is a JSON object of values by name. Prints a JSON object with
                                             the rows of each file, each row an object, or with the error of one that Spark refuses

Spark writes a parameter as :name. Types and defaults are those that a file's own comment declares.
"""

import datetime
import glob
import json
import os
import pathlib
import re
import sys
import time

# Python shows timestamps in the zone of the process.
os.environ["TZ"] = "UTC"
time.tzset()

from pyspark.sql import SparkSession  # noqa: E402

TYPES = {"date": "DATE", "timestamp": "TIMESTAMP", "text": "STRING", "integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN"}
DECLARED = re.compile(r"^--\s+\$(\w+)\s+(\w+)(?:\s*=\s*(\S+))?", re.MULTILINE)


def start(jars):
    """A session on loopback."""
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.jars", ",".join(sorted(glob.glob(f"{jars}/*.jar"))))
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.databricks.delta.snapshotPartitions", "2")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def in_spark(text, given):
    """A file's statement with Spark's parameters, and their values."""
    declared = {name: (TYPES[kind], default) for name, kind, default in DECLARED.findall(text)}
    code = "\n".join(line for line in text.splitlines() if not line.startswith("--")).strip().rstrip(";")
    code = re.sub(r"\$(\w+)", lambda found: f"CAST(:{found[1]} AS {declared[found[1]][0]})", code)
    values = {name: None if default == "NULL" else default for name, (_, default) in declared.items()}
    values |= {name: value for name, value in given.items() if name in declared}
    return code, values


def cell(value):
    """A value as `olap query --format json` writes it."""
    if isinstance(value, datetime.datetime):
        return value.isoformat(timespec="milliseconds") + "Z"
    return value.isoformat() if isinstance(value, datetime.date) else value


def main():
    jars, lake, parameters, *files = sys.argv[1:]
    spark = start(jars)
    for table in ("logins", "rejected", "logins_hourly"):
        # A lake that has rejected nothing has no such table.
        if pathlib.Path(lake, table).is_dir():
            spark.read.format("delta").load(f"{lake}/{table}").createOrReplaceTempView(table)
    answers = {}
    for file in files:
        code, values = in_spark(pathlib.Path(file).read_text(encoding="utf-8"), json.loads(parameters))
        try:
            rows = spark.sql(code, args=values).collect()
            answers[file] = [{name: cell(value) for name, value in row.asDict().items()} for row in rows]
        except Exception as error:  # noqa: BLE001: whatever Spark says is the answer
            answers[file] = str(error).splitlines()[0]
    json.dump(answers, sys.stdout)
    spark.stop()


main()
