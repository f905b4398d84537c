"""Clients of Arrow Flight SQL, with nothing of ours: ADBC's driver, and pyarrow's Flight for what a driver hides.

    flight_client.py HTTP_PORT FLIGHT_PORT TOKEN PART [ARGUMENT...]

Each part checks one promise and fails with an AssertionError. What the caller needs is printed as JSON.
"""

import contextlib
import datetime
import http.client
import json
import os
import sys
import threading
import time

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import pyarrow
import pyarrow.flight
from adbc_driver_flightsql import DatabaseOptions

HTTP_PORT, PORT, TOKEN, PART = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
ARGUMENTS = sys.argv[5:]
LIMIT = 60
URI = f"grpc://127.0.0.1:{PORT}"
Error = adbc_driver_manager.Error
Status = adbc_driver_manager.AdbcStatusCode
# Its condition never holds, so it gives no row and no batch for hours.
NEVER = (
    "SELECT count(*) FROM generate_series(1, 100000) AS a(x) "
    "JOIN generate_series(1, 10000000000) AS b(y) ON a.x * b.y < 0"
)
# The same with a key that all rows share.
NEVER_OF_A_KEY = (
    "SELECT count(*) FROM (SELECT x, x % 1 AS k FROM generate_series(1, 100000) AS a(x)) "
    "JOIN (SELECT y, y % 1 AS l FROM generate_series(1, 1000000000) AS b(y)) ON k = l AND x * y < 0"
)


def connect(token=TOKEN, **options):
    if token:
        options[DatabaseOptions.AUTHORIZATION_HEADER.value] = "Bearer " + token
    return flightsql.connect(URI, db_kwargs=options, autocommit=True)


@contextlib.contextmanager
def cursor(**options):
    with connect(**options) as connection, connection.cursor() as cursor:
        yield cursor


def rows(sql, parameters=None, **options):
    with cursor(**options) as asked:
        asked.execute(sql, parameters)
        return [list(row) for row in asked.fetchall()]


def refusal(ask):
    """The error of what must not succeed."""
    try:
        answer = ask()
    except (Error, OSError) as error:  # pyarrow's readers of batches have one of their own
        return error
    raise AssertionError(f"it was answered: {answer}")


def metric(name, label=""):
    connection = http.client.HTTPConnection("127.0.0.1", HTTP_PORT, timeout=LIMIT)
    connection.request("GET", "/metrics", headers={"Authorization": "Bearer " + TOKEN})
    body = connection.getresponse().read().decode()
    connection.close()
    values = 0.0
    for line in body.splitlines():
        if line.startswith(name) and line[len(name) : len(name) + 1] in (" ", "{") and label in line:
            values += float(line.rsplit(" ", 1)[1])
    return values


def wait_for(what, condition):
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, "waited in vain for " + what
        time.sleep(0.02)


def cpu_seconds(process):
    with open(f"/proc/{process}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def flight(token=TOKEN):
    client = pyarrow.flight.FlightClient(URI)
    header = (b"authorization", b"Bearer " + token.encode())
    return client, pyarrow.flight.FlightCallOptions(timeout=LIMIT, headers=[header] if token else [])


def statement(sql, kind="CommandStatementQuery", field=1):
    """A command of Flight SQL, written by hand: a text in a message in an Any."""

    def text(number, value):
        length, size = len(value), b""
        while length > 127:
            size, length = size + bytes([length & 127 | 128]), length >> 7
        return bytes([number << 3 | 2]) + size + bytes([length]) + value

    name = f"type.googleapis.com/arrow.flight.protocol.sql.{kind}".encode()
    command = text(1, name) + text(2, text(field, sql.encode()))
    return pyarrow.flight.FlightDescriptor.for_command(command)


def access():
    for token in (None, "wrong-token-of-the-same-size", TOKEN + "x", TOKEN[:-1]):
        error = refusal(lambda: rows("SELECT 1", token=token))
        assert error.status_code == Status.UNAUTHENTICATED, (token, error)
        assert TOKEN not in str(error)
        client, options = flight(token or "")
        for call in (
            lambda: client.get_flight_info(statement("SELECT 1"), options),
            lambda: client.get_schema(statement("SELECT 1"), options),
            lambda: list(client.list_actions(options)),
            lambda: list(client.do_action(pyarrow.flight.Action("CreatePreparedStatement", b""), options)),
            lambda: client.do_get(pyarrow.flight.Ticket(b""), options).read_all(),
        ):
            try:
                call()
            # Not every call of pyarrow has an error of its own for it.
            except (pyarrow.flight.FlightUnauthenticatedError, OSError) as error:
                assert "unauthenticated" in str(error).lower(), error
                continue
            raise AssertionError(f"{token} may call")
    # As a password of any user, of ADBC, and of the handshake.
    # Names of all lengths: some drivers leave the padding of base64 out.
    for user in ("anybody", "who", "", "anybody at all"):
        options = {"username": user, "password": TOKEN}
        assert rows("SELECT 1", token=None, **options) == [[1]], user
    error = refusal(lambda: rows("SELECT 1", token=None, username="anybody", password="wrong"))
    assert error.status_code == Status.UNAUTHENTICATED, error
    client = pyarrow.flight.FlightClient(URI)
    header = client.authenticate_basic_token("anybody", TOKEN)
    assert header == (b"authorization", b"Bearer " + TOKEN.encode()), header


def catalogue():
    with connect() as connection:
        info = connection.adbc_get_info()
        assert info["vendor_name"] == "loginlake", info
        assert connection.adbc_get_table_types() == ["TABLE"]
        objects = connection.adbc_get_objects(depth="all").read_all().to_pylist()
        assert [catalog["catalog_name"] for catalog in objects] == ["lake"], objects
        (schema,) = objects[0]["catalog_db_schemas"]
        assert schema["db_schema_name"] == "public", schema
        tables = {table["table_name"]: table for table in schema["db_schema_tables"]}
        assert set(tables) == {"logins", "rejected", "logins_hourly"}, tables
        assert {table["table_type"] for table in tables.values()} == {"TABLE"}
        columns = [column["column_name"] for column in tables["logins"]["table_columns"]]
        assert {"user_id", "event_time", "region", "login_date"} <= set(columns), columns
        some = connection.adbc_get_objects(depth="tables", table_name_filter="logins\\_%").read_all().to_pylist()
        assert "logins_hourly" in str(some) and "rejected" not in str(some), some
        known = connection.adbc_get_table_schema("logins")
        assert known.names == columns
        with connection.cursor() as asked:
            asked.execute("SELECT * FROM logins LIMIT 0")
            assert asked.fetch_arrow_table().schema == known
    client, options = flight()
    for kind in ("CommandGetPrimaryKeys", "CommandGetExportedKeys", "CommandGetImportedKeys", "CommandGetXdbcTypeInfo"):
        field = 3 if kind != "CommandGetXdbcTypeInfo" else 15
        info = client.get_flight_info(statement("logins", kind, field), options)
        table = client.do_get(info.endpoints[0].ticket, options).read_all()
        assert table.schema == info.schema, kind
        assert (table.num_rows == 0) == kind.endswith("Keys"), (kind, table.num_rows)


def answers():
    """The rows that another engine counts."""
    wanted = json.loads(ARGUMENTS[0])
    assert rows("SELECT region, count(*) FROM logins GROUP BY region ORDER BY region;") == wanted
    assert rows("SELECT count(*) FROM lake.public.logins WHERE login_date > '2999-01-01'") == [[0]]
    (plan,) = [rows("EXPLAIN SELECT count(*) FROM logins")]
    assert "logins" in str(plan), plan
    assert ["lake", "public", "logins", "BASE TABLE"] in rows("SHOW TABLES"), rows("SHOW TABLES")
    nested = rows("SELECT array_agg(DISTINCT region ORDER BY region) AS all, named_struct('a', 'x') AS s FROM logins")
    assert nested == [[[region for region, _ in wanted], {"a": "x"}]], nested
    # What is promised before a statement runs is what comes.
    client, options = flight()
    for sql in (
        "SELECT * FROM logins LIMIT 3",
        "SELECT region, count(*) AS n, avg(local_hour) AS hour FROM logins GROUP BY region",
        "SELECT NULL AS nothing, DATE '2026-01-31' AS day, array_agg(region) AS list FROM logins",
        "EXPLAIN SELECT 1",
        "SELECT region FROM logins WHERE false",
    ):
        promised = client.get_schema(statement(sql), options).schema
        info = client.get_flight_info(statement(sql), options)
        assert info.schema == promised and info.ordered, sql
        table = client.do_get(info.endpoints[0].ticket, options).read_all()
        assert table.schema == promised, (sql, table.schema, promised)


def prepared():
    wanted = dict(json.loads(ARGUMENTS[0]))
    region = next(iter(wanted))
    count = "SELECT count(*) FROM logins WHERE region = "
    for sql, values in (
        (count + "?", (region,)),
        (count + "$1", (region,)),
        (count + "$region", (region,)),
        (count + "$region AND $name IS NULL", pyarrow.record_batch({"name": pyarrow.array([None], pyarrow.string()), "region": [region]})),
        (count + "$2 AND local_hour >= $1", (0, region)),
        (count + "? AND login_date >= ?", (region, datetime.date(2000, 1, 1))),
        (count + "? AND login_date >= ?", (region, "2000-01-01")),
        ("--\n--   $region text  which\n" + count + "$region", (region,)),
    ):
        assert rows(sql, values) == [[wanted[region]]], (sql, values)
    assert rows("SELECT region FROM logins GROUP BY region ORDER BY region LIMIT ?", (2,)) == [[r] for r in list(wanted)[:2]]
    assert rows("SELECT ? AS a, ? AS b, ? IS NULL AS c", ("x", 7, None)) == [["x", 7, True]]
    for hostile in ("West' OR '1'='1", "x'; DROP TABLE logins; --", '"$1"', "?", "🦀"):
        assert rows(count + "?", (hostile,)) == [[0]], hostile
        assert rows("SELECT ? AS text", (hostile,)) == [[hostile]]
    with connect() as connection, connection.cursor() as asked:
        # Prepared once, run with several values.
        types = asked.adbc_prepare("SELECT count(*) FROM logins WHERE region = ? AND login_date >= ?")
        assert types.types == [pyarrow.string(), pyarrow.date32()], types
        assert metric("serve_flight_sql_prepared_statements") >= 1
    for sql, values, said in (
        (count + "?", (), "has no value"),
        (count + "?", ("a", "b"), "2 values are given"),
        ("SELECT count(*) FROM logins WHERE login_date = ?", ("yesterday",), "does not fit"),
        (count + "$1 AND login_date > $3", ("a", "b"), "none left out"),
        (count + "?", [("a",), ("b",)], "2 values are given"),
    ):
        error = refusal(lambda: rows(sql, values))
        assert said in str(error), (sql, values, error)
        assert error.status_code == Status.INVALID_ARGUMENT, error
    with connect() as connection, connection.cursor() as asked:
        def many():
            asked.executemany(count + "?", [("a",), ("b",)])
            return asked.fetchall()
        error = refusal(many)
    wait_for("closed statements", lambda: metric("serve_flight_sql_prepared_statements") == 0)


def refused():
    before = rows("SELECT count(*) FROM logins")
    for sql in (
        "DROP TABLE logins",
        "DELETE FROM logins",
        "UPDATE logins SET region = 'x'",
        "INSERT INTO logins SELECT * FROM logins",
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW t AS SELECT 1",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "CREATE FUNCTION f(INT) RETURNS INT RETURN $1",
        "COPY logins TO '/tmp/x.csv'",
        "COPY (SELECT 1) TO 's3://bucket/x'",
        "SET datafusion.execution.batch_size = 1",
        "RESET datafusion.execution.batch_size",
        "BEGIN",
        "PREPARE p AS SELECT 1",
        "EXPLAIN INSERT INTO logins SELECT * FROM logins",
        "EXPLAIN ANALYZE COPY logins TO '/tmp/x.csv'",
        "SELECT 1 INTO t",
        "WITH d AS (DELETE FROM logins RETURNING *) SELECT * FROM d",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM 'file:///etc/passwd'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM parquet_metadata('/etc/passwd')",
        "SELECT * FROM logins.files",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT load_extension('x')",
        "SELECT 1; SELECT 2",
        " ",
        "-- nothing",
        "SELECT '" + "x" * (300 << 10) + "'",
    ):
        for ask in (lambda: rows(sql), lambda: prepare(sql)):
            error = refusal(ask)
            assert error.status_code == Status.INVALID_ARGUMENT, (sql, error.status_code, error)
            assert "root:" not in str(error)
    with cursor() as asked:
        error = refusal(lambda: asked.adbc_ingest("logins", pyarrow.table({"a": [1]}), mode="append"))
        assert "only reads" in str(error), error
    with connect() as connection:
        with connection.cursor() as asked:
            error = refusal(lambda: asked.executemany("INSERT INTO logins VALUES (?)", [(1,)]))
            assert "only read" in str(error), error
    client, options = flight()
    for descriptor in (statement("DELETE FROM logins", "CommandStatementUpdate"), pyarrow.flight.FlightDescriptor.for_path("x")):
        try:
            writer, reader = client.do_put(descriptor, pyarrow.schema([]), options)
            writer.done_writing()
            reader.read()
            writer.close()
        except (pyarrow.ArrowException, NotImplementedError) as error:
            assert "only reads" in str(error) or "Flight SQL" in str(error) or "decode" in str(error).lower(), error
            continue
        raise AssertionError(f"{descriptor} was taken")
    # What is wrong is said with its place.
    error = refusal(lambda: rows("SELECT region,\n  regon FROM logins"))
    assert "query:2:3" in str(error) and "did you mean" in str(error) and "^" in str(error), error
    for garbage in (b"", b"garbage", b"\xff" * 100):
        try:
            client.do_get(pyarrow.flight.Ticket(garbage), options).read_all()
        except pyarrow.ArrowException:
            continue
        raise AssertionError("garbage was answered")
    assert rows("SELECT count(*) FROM logins") == before


def count_rows(sql):
    with cursor() as asked:
        asked.execute(sql)
        return sum(batch.num_rows for batch in asked.fetch_record_batch())


def prepare(sql):
    with cursor() as asked:
        return asked.adbc_prepare(sql)


def limits():
    error = refusal(lambda: count_rows("SELECT x FROM generate_series(1, 1000001) AS t(x)"))
    assert "more than 1000000 rows" in str(error), error
    error = refusal(
        lambda: rows("SELECT count(*) FROM generate_series(1, 9000000) a(x) JOIN generate_series(1, 9000000) b(y) ON x = y + 1")
    )
    assert "more memory" in str(error), error
    began = time.monotonic()
    error = refusal(lambda: rows(NEVER))
    assert "did not end" in str(error) and time.monotonic() - began < 40, error
    assert metric("serve_flight_sql_calls_total", 'code="DEADLINE_EXCEEDED"') >= 1
    # More than may run at once wait for their turn.
    results = []
    asking = [threading.Thread(target=lambda: results.append(rows("SELECT count(*) FROM logins"))) for _ in range(12)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert len(results) == 12 and len({str(result) for result in results}) == 1, results


def stream():
    """Far more rows than the server may hold, taken slowly."""
    with cursor() as asked:
        asked.execute("SELECT x, repeat('x', 350) AS text FROM generate_series(1, 1000000) AS t(x)")
        reader = asked.fetch_record_batch()
        count = total = batches = 0
        for batch in reader:
            count += batch.num_rows
            total += pyarrow.compute.sum(batch.column(0)).as_py()
            batches += 1
            if batches % 40 == 0:
                time.sleep(0.01)
    assert count == 1_000_000 and total == 1_000_000 * 1_000_001 // 2, (count, total)


def cancelled():
    process = int(ARGUMENTS[0])
    for sql in (NEVER, NEVER_OF_A_KEY, "SELECT sum(a.x * b.y) FROM generate_series(1, 1000000) a(x), generate_series(1, 1000000) b(y)"):
        before = metric("serve_queries_cancelled_total")
        connection = connect()
        asked = connection.cursor()
        errors = []

        def ask():
            try:
                asked.execute(sql)
                asked.fetchall()
            except Error as error:
                errors.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        wait_for("a running query", lambda: metric("serve_queries_running") == 1)
        began = cpu_seconds(process)
        wait_for("a computing query", lambda: cpu_seconds(process) > began + 0.2)
        asked.adbc_cancel()
        asking.join(LIMIT)
        assert errors and errors[0].status_code == Status.CANCELLED, errors
        ended(process, before)
        asked.close()
        connection.close()
    # The same in the middle of an answer, and by going away.
    before = metric("serve_queries_cancelled_total")
    client, options = flight()
    info = client.get_flight_info(statement("SELECT x, repeat('x', 350) FROM generate_series(1, 900000) AS t(x)"), options)
    reader = client.do_get(info.endpoints[0].ticket, options)
    reader.read_chunk()
    assert metric("serve_queries_running") == 1
    reader.cancel()
    ended(process, before)


def ended(process, before):
    """No query runs, and nothing computes any more."""
    began = time.monotonic()
    wait_for("the end of the query", lambda: metric("serve_queries_running") == 0)
    wait_for("its count", lambda: metric("serve_queries_cancelled_total") == before + 1)

    def idle():
        used = cpu_seconds(process)
        time.sleep(0.3)
        return cpu_seconds(process) - used < 0.1

    wait_for("idle threads", idle)
    assert time.monotonic() - began < 5, "it was the time limit that ended it"


def fresh():
    """Records that are in the topic only."""
    wanted = int(ARGUMENTS[0])
    count = "SELECT count(*) FROM logins"
    (held,) = rows(count)[0]
    (logins,) = rows(count, **{DatabaseOptions.RPC_CALL_HEADER_PREFIX.value + "loginlake-fresh": "true"})[0]
    assert held < logins == wanted, (held, logins, wanted)


def interrupted():
    """The service ends in the middle of an answer; the caller sees to that. The client must not take a part for the whole."""
    name, expected = ARGUMENTS[0], ARGUMENTS[1]
    client, options = flight()
    sql = "SELECT x, repeat('x', 100) AS text FROM generate_series(1, 400000) AS t(x)"
    info = client.get_flight_info(statement(sql), options)
    reader = client.do_get(info.endpoints[0].ticket, options)
    count = reader.read_chunk().data.num_rows
    with open(name, "w") as file:
        file.write("reading")
    wait_for("the signal", lambda: os.path.exists(name + ".sent"))
    try:
        while True:
            count += reader.read_chunk().data.num_rows
    except StopIteration:
        assert expected == "whole" and count == 400_000, (expected, count)
    except pyarrow.ArrowException as error:
        assert expected == "error", error


globals()[PART]()
