"""Copies a local folder to S3 as it is: copy_table.py FOLDER s3://BUCKET/PREFIX."""

import os
import pathlib
import sys
from concurrent.futures import ThreadPoolExecutor

from pyarrow.fs import S3FileSystem

source, target = pathlib.Path(sys.argv[1]), sys.argv[2].removeprefix("s3://")
address = os.environ["AWS_ENDPOINT_URL"]
store = S3FileSystem(
    access_key=os.environ["AWS_ACCESS_KEY_ID"],
    secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
    region=os.environ["AWS_REGION"],
    endpoint_override=address.partition("://")[2],
    scheme=address.partition("://")[0],
)


def copy(path):
    with store.open_output_stream(f"{target}/{path.relative_to(source)}") as out:
        out.write(path.read_bytes())


with ThreadPoolExecutor(16) as pool:
    for _ in pool.map(copy, [path for path in source.rglob("*") if path.is_file()]):
        pass
