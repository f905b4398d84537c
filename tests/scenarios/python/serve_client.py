"""A client of `olap serve`, with nothing of ours: Python's HTTP, JSON and CSV, pyarrow, an OpenAPI validator.

    serve_client.py PORT TOKEN PART [ARGUMENT...]

Each part checks one promise and fails with an AssertionError. What the caller needs is printed as JSON.
"""

import csv
import http.client
import io
import json
import socket
import sys
import threading
import time
import urllib.parse

PORT, TOKEN, PART = int(sys.argv[1]), sys.argv[2], sys.argv[3]
ARGUMENTS = sys.argv[4:]
LIMIT = 60
EVIL = ["West' OR '1'='1", "x'; DROP TABLE logins; --", '"$region"', "\u0000", "%27", "🦀"]


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def json(self):
        return json.loads(self.body)


def get(path, headers=None, method="GET", token=TOKEN, **query):
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=LIMIT)
    if query:
        path += "?" + urllib.parse.urlencode(query)
    headers = dict(headers or {})
    if token:
        headers.setdefault("Authorization", "Bearer " + token)
    connection.request(method, path, headers=headers)
    answer = Answer(connection.getresponse())
    connection.close()
    return answer


def wait_for(what, condition):
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, "waited in vain for " + what
        time.sleep(0.02)


def metric(name, label=""):
    values = 0.0
    for line in get("/metrics").body.decode().splitlines():
        if line.startswith(name) and line[len(name) : len(name) + 1] in (" ", "{") and label in line:
            values += float(line.rsplit(" ", 1)[1])
    return values


def access():
    for path in ("/queries", "/queries/by_region", "/queries/none", "/openapi.json", "/metrics"):
        for token in (None, "wrong-token-of-the-same-size", TOKEN + "x", TOKEN[:-1]):
            answer = get(path, token=token)
            assert answer.status == 401, (path, token, answer.status)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            assert TOKEN.encode() not in answer.body
    assert get("/health/live", token=None).status == 200
    assert get("/health/ready", token=None).status == 200
    assert get("/metrics").status == 200
    for path in ("/queries/none", "/queries/../Cargo", "/queries/%2e%2e%2fby_region", "/queries/", "/none"):
        answer = get(path)
        assert answer.status == 404 and answer.json()["error"], (path, answer.status)
    for method in ("POST", "PUT", "DELETE"):
        assert get("/queries/by_region", method=method).status == 405, method


def description():
    from openapi_spec_validator import OpenAPIV31SpecValidator

    listed = get("/queries").json()["queries"]
    names = {query["name"] for query in listed}
    assert {"by_region", "top_regions", "hourly/peak_hours"} <= names, names
    by_region = next(query for query in listed if query["name"] == "by_region")
    assert by_region["title"] == "How many logins has each region?", by_region
    parameters = {parameter["name"]: parameter for parameter in by_region["parameters"]}
    assert parameters["region"]["type"] == "text" and not parameters["region"]["required"], parameters
    assert parameters["from"]["type"] == "date" and parameters["from"]["meaning"], parameters

    document = get("/openapi.json").json()
    OpenAPIV31SpecValidator(document).validate()
    assert document["openapi"].startswith("3.1")
    for name in names:
        operation = document["paths"]["/queries/" + name]["get"]
        assert "200" in operation["responses"] and "304" in operation["responses"], name
    described = [p["name"] for p in document["paths"]["/queries/by_region"]["get"]["parameters"] if "name" in p]
    assert described == ["from", "region"], described
    # Every query of the repository answers, and as it is described.
    for name in sorted(names - {"slow", "large", "all_rows", "echo"}):
        answer = get("/queries/" + name)
        assert answer.status == 200, (name, answer.status, answer.body)
        assert isinstance(answer.json(), list)


def formats():
    """The same rows in every format, as another engine counts them."""
    import pyarrow.ipc

    wanted = [{"region": region, "logins": logins} for region, logins in json.loads(ARGUMENTS[0])]
    answers = {}
    for name, media in (
        ("json", "application/json"),
        ("csv", "text/csv"),
        ("ndjson", "application/x-ndjson"),
        ("arrow", "application/vnd.apache.arrow.stream"),
    ):
        by_name = get("/queries/by_region", format=name)
        by_header = get("/queries/by_region", headers={"Accept": media + ", text/html;q=0.9"})
        assert by_name.status == by_header.status == 200, (name, by_name.body, by_header.body)
        assert by_name.body == by_header.body, name
        assert by_header.headers["Content-Type"].startswith(media), by_header.headers["Content-Type"]
        assert int(by_name.headers["Content-Length"]) == len(by_name.body)
        assert int(by_name.headers["Loginlake-Rows"]) == len(wanted)
        assert "logins version" in by_name.headers["Loginlake-Answer"]
        answers[name] = by_name.body
    assert json.loads(answers["json"]) == wanted
    assert [json.loads(line) for line in answers["ndjson"].decode().splitlines()] == wanted
    rows = list(csv.DictReader(io.StringIO(answers["csv"].decode())))
    assert [{"region": row["region"], "logins": int(row["logins"])} for row in rows] == wanted
    assert pyarrow.ipc.open_stream(answers["arrow"]).read_all().to_pylist() == wanted
    assert get("/queries/by_region", headers={"Accept": "text/html"}).status == 406
    head = get("/queries/by_region", method="HEAD")
    assert head.status == 200 and head.body == b""

    some = get("/queries/by_region", region=wanted[0]["region"]).json()
    assert some == wanted[:1], some
    assert get("/queries/by_region", **{"from": "2999-01-01"}).json() == []


def hostile():
    for value in EVIL:
        answer = get("/queries/by_region", region=value)
        assert answer.status == 200 and answer.json() == [], (value, answer.status, answer.body)
        assert get("/queries/echo", text=value).json() == [{"text": value}], value
    for value in ("=1+1", "+cmd", "-2+3", "@SUM(A1)"):
        answer = get("/queries/echo", text=value, format="csv")
        rows = list(csv.reader(io.StringIO(answer.body.decode())))
        assert rows == [["text"], ["'" + value]], rows
    # What is wrong is told with the parameter's name.
    for query, name in (
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-01-01'; --"}, "from"),
        ({"regoin": "West"}, "regoin"),
        ({"format": "xml"}, "format"),
        ({"limit": "0"}, "limit"),
        ({"limit": "100000000"}, "limit"),
        ({"fresh": "maybe"}, "fresh"),
        ({"region": "x" * 5000}, "region"),
    ):
        answer = get("/queries/by_region", **query)
        assert answer.status == 400, (query, answer.status, answer.body)
        assert answer.json()["parameter"] == name, (query, answer.body)
    answer = get("/queries/by_region?region=a&region=b")
    assert answer.status == 400 and answer.json()["parameter"] == "region"
    answer = get("/queries/echo")
    assert answer.status == 400 and answer.json()["parameter"] == "text", answer.body


def limits():
    answer = get("/queries/all_rows")
    assert answer.status == 422 and "rows" in answer.json()["error"], (answer.status, answer.body)
    answer = get("/queries/all_rows", limit=7)
    assert answer.status == 200 and len(answer.json()) == 7
    assert answer.headers["Loginlake-Truncated"] == "true"
    answer = get("/queries/large")
    assert answer.status == 422 and "memory" in answer.json()["error"], (answer.status, answer.body)
    began = time.monotonic()
    answer = get("/queries/slow")
    took = time.monotonic() - began
    assert answer.status == 504 and "within" in answer.json()["error"], (answer.status, answer.body)
    assert took < 30, took

    # Two may run; the third is told to come again, and nothing else is held up.
    held = [open_slow(), open_slow()]
    wait_for("two running queries", lambda: metric("serve_queries_running") == 2)
    answer = get("/queries/by_region")
    assert answer.status == 429, (answer.status, answer.body)
    assert int(answer.headers["Retry-After"]) >= 1
    assert get("/health/ready", token=None).status == 200
    assert get("/queries").status == 200
    # Whoever goes away stops what they have asked for, long before its time is over.
    before = metric("serve_queries_cancelled_total")
    for connection in held:
        connection.close()
    began = time.monotonic()
    wait_for("cancelled queries", lambda: metric("serve_queries_cancelled_total") == before + 2)
    assert time.monotonic() - began < 5, "it was the time limit that ended them"
    assert metric("serve_queries_running") == 0
    assert get("/queries/by_region").status == 200
    assert metric("serve_requests_total", 'status="429"') >= 1
    assert metric("serve_requests_total", 'query="by_region"') >= 1


def open_slow():
    connection = socket.create_connection(("127.0.0.1", PORT), timeout=LIMIT)
    request = f"GET /queries/slow HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    connection.sendall(request.encode())
    return connection


def etags():
    first = get("/queries/by_region")
    tag = first.headers["ETag"]
    assert tag.startswith('W/"') and "no-cache" in first.headers["Cache-Control"]
    for value in (tag, '"x", ' + tag, tag.removeprefix("W/"), "*"):
        again = get("/queries/by_region", headers={"If-None-Match": value})
        assert again.status == 304 and again.body == b"" and again.headers["ETag"] == tag, value
    others = [
        get("/queries/by_region", format="csv").headers["ETag"],
        get("/queries/by_region", region="West").headers["ETag"],
        get("/queries/by_region", limit=2).headers["ETag"],
        get("/queries/top_regions").headers["ETag"],
    ]
    assert len({tag, *others}) == 5, others
    for other in others:
        assert get("/queries/by_region", headers={"If-None-Match": other}).status == 200
    print(json.dumps(tag))


def changed():
    """The table has got another version since the tag was given."""
    answer = get("/queries/by_region", headers={"If-None-Match": ARGUMENTS[0]})
    assert answer.status == 200 and answer.headers["ETag"] != ARGUMENTS[0]


def fresh():
    """Records that are in the topic only."""
    wanted = int(ARGUMENTS[0])
    held = sum(row["logins"] for row in get("/queries/by_region").json())
    answer = get("/queries/by_region", fresh="true")
    assert answer.status == 200, (answer.status, answer.body)
    logins = sum(row["logins"] for row in answer.json())
    assert held < logins == wanted, (held, logins, wanted)
    assert "rows of the topic" in answer.headers["Loginlake-Answer"], answer.headers["Loginlake-Answer"]
    again = get("/queries/by_region", headers={"If-None-Match": answer.headers["ETag"]}, fresh="true")
    assert again.status == 304, again.status


def drain():
    """A request that runs when the service is told to stop gets its answer; the caller sends the signal."""
    answers = []
    asking = threading.Thread(target=lambda: answers.append(get("/queries/slow")))
    asking.start()
    wait_for("a running query", lambda: metric("serve_queries_running") == 1)
    print("running", flush=True)
    with open(ARGUMENTS[0], "w") as file:
        file.write("running")
    asking.join()
    # Its time limit ends it, and the client is told so.
    assert answers[0].status == 504, answers[0].status
    try:
        get("/queries")
    except OSError:
        return
    raise AssertionError("it still takes new connections")


def loopback():
    """Without a token this machine is served, but not by a name of somebody else."""
    assert get("/queries", token=None).status == 200
    assert get("/queries", token=None, headers={"Host": "localhost:1"}).status == 200
    answer = get("/queries", token=None, headers={"Host": "attacker.example"})
    assert answer.status == 421, answer.status
    answer = get("/queries/by_region", token=None, fresh="true")
    assert answer.status == 400 and answer.json()["parameter"] == "fresh", answer.body


globals()[PART]()
