"""Where in a folder a text is, read without any of this project's code.

find_text.py FOLDER TEXT...    every file is looked into: its bytes, and of Parquet files each value of each column (nested ones,
                               too) and the footer with its statistics, as pyarrow reads them. Capital letters count as small
                               ones; escapes of JSON are decoded and zeros left out, as well as kept. Prints a JSON array of
                               {object, place, text}.
"""

import datetime
import json
import pathlib
import re
import sys

import pyarrow.parquet as parquet

ESCAPE = re.compile(rb"\\u00([0-9a-f]{2})")


def forms(data: bytes) -> list[bytes]:
    """A value as it is, with escapes decoded, and without zeros."""
    lower = data.lower()
    plain = ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), lower).lower()
    return [lower, plain, lower.replace(b"\0", b"")]


def values(of) -> list[bytes]:
    """All texts and bytes in a value, however it is nested."""
    if isinstance(of, bytes):
        return [of]
    if isinstance(of, str):
        return [of.encode()]
    if isinstance(of, dict):
        return [found for pair in of.items() for part in pair for found in values(part)]
    if isinstance(of, (list, tuple)):
        return [found for part in of for found in values(part)]
    if of is None or isinstance(of, (int, float, datetime.date, datetime.datetime)):
        return []
    return [str(of).encode()]


def places(path: pathlib.Path):
    """The parts of a file, by name."""
    yield "bytes", [path.read_bytes()]
    if path.suffix == ".parquet":
        # One file and nothing else: no partition columns are guessed from its folder.
        with parquet.ParquetFile(path) as file:
            yield "footer", values(file.metadata.to_dict()) + values(dict(file.metadata.metadata or {}))
            for batch in file.iter_batches():
                for name, column in zip(batch.schema.names, batch.columns):
                    yield f"column {name}", values(column.to_pylist())


def main() -> None:
    folder, *texts = sys.argv[1:]
    wanted = {text: text.lower().encode() for text in texts}
    found = []
    for path in sorted(pathlib.Path(folder).rglob("*")):
        if not path.is_file():
            continue
        for place, parts in places(path):
            seen = [form for part in parts for form in forms(part)]
            for text, needle in wanted.items():
                if any(needle in form for form in seen):
                    hit = {"object": str(path.relative_to(folder)), "place": place, "text": text}
                    if hit not in found:
                        found.append(hit)
    json.dump(found, sys.stdout)


main()
