"""Apache Spark with Delta Lake on the tables of a lake in a directory.

spark.py JARS TABLE SQL...    runs each statement, in which the table is written {t}; prints a JSON array with the rows of each
"""

import glob
import json
import sys

from pyspark.sql import SparkSession


def main() -> None:
    jars, table, *statements = sys.argv[1:]
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
    answers = []
    for statement in statements:
        rows = spark.sql(statement.replace("{t}", f"delta.`{table}`")).collect()
        answers.append([list(row) for row in rows])
    json.dump(answers, sys.stdout, default=str)
    spark.stop()


main()
