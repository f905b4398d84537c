"""One SQL statement for a Trino server on this machine; the rows come out as one JSON array of arrays.

trino.py PORT SQL
"""

import json
import sys
import time
import urllib.request

LIMIT_S = 120


def ask(url: str, body: bytes | None = None) -> dict:
    request = urllib.request.Request(url, data=body, headers={"X-Trino-User": "reader"})
    with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
        return json.load(answer)


def main() -> None:
    port, sql = sys.argv[1:]
    answer = ask(f"http://127.0.0.1:{port}/v1/statement", sql.encode())
    rows = []
    ends = time.monotonic() + LIMIT_S
    while True:
        if "error" in answer:
            sys.exit(f"{sql}: {answer['error']['message']}")
        rows += answer.get("data", [])
        if "nextUri" not in answer:
            break
        if time.monotonic() > ends:
            sys.exit(f"{sql}: no end after {LIMIT_S} s")
        # The server answers when there is something new, or after a moment.
        answer = ask(answer["nextUri"])
    json.dump(rows, sys.stdout)


main()
