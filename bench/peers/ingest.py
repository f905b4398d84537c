"""The Python peer of `olap ingest`: Kafka to a Delta table, offsets in the same commit, as a careful Python programmer would
write it: confluent-kafka in batches, json, pyarrow, deltalake. It does less on each record than ours: hardly any validation.

Prints one JSON object: records, and seconds from the assignment of the partitions until everything is committed.
"""

import argparse
import json
import pathlib
import time

import pyarrow as pa
from confluent_kafka import Consumer, KafkaError, TopicPartition
from deltalake import CommitProperties, Transaction, write_deltalake

BATCH_RECORDS = 100_000
ANSWER_LIMIT_SECONDS = 30
STATES = pathlib.Path(__file__).resolve().parents[2] / "data" / "us_states.csv"
SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("device_id", pa.string()),
        ("timestamp", pa.int64()),
        ("ip", pa.string()),
        ("locale", pa.string()),
        ("device_type", pa.string()),
        ("app_version", pa.string()),
        ("event_time", pa.timestamp("us", tz="UTC")),
        ("processed_timestamp", pa.timestamp("us", tz="UTC")),
        ("region", pa.string()),
        ("login_date", pa.date32()),
        ("login_hour", pa.int8()),
        ("kafka_partition", pa.int32()),
        ("kafka_offset", pa.int64()),
    ]
)


def regions():
    """State to region."""
    header, *lines = (line.split(",") for line in STATES.read_text().splitlines())
    state, region = header.index("code"), header.index("census_region")
    return {line[state]: line[region] for line in lines}


def table(messages, region_of):
    """A batch as columns."""
    columns = {name: [] for name in SCHEMA.names}
    now_us = time.time_ns() // 1_000
    for message in messages:
        login = json.loads(message.value())
        seconds = int(login["timestamp"])
        columns["user_id"].append(login["user_id"])
        columns["device_id"].append(login["device_id"])
        columns["timestamp"].append(seconds)
        columns["ip"].append(login["ip"])
        columns["locale"].append(login.get("locale") or "unknown")
        columns["device_type"].append((login.get("device_type") or "unknown").lower())
        columns["app_version"].append(login.get("app_version") or "unknown")
        columns["event_time"].append(seconds * 1_000_000)
        columns["processed_timestamp"].append(now_us)
        columns["region"].append(region_of.get(login.get("locale"), "Unknown"))
        columns["login_date"].append(seconds // 86_400)
        columns["login_hour"].append(seconds % 86_400 // 3_600)
        columns["kafka_partition"].append(message.partition())
        columns["kafka_offset"].append(message.offset())
    return pa.table({name: pa.array(columns[name], SCHEMA.field(name).type) for name in SCHEMA.names})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--group-id", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--table", required=True)
    options = parser.parse_args()
    consumer = Consumer(
        {
            "bootstrap.servers": options.brokers,
            "group.id": options.group_id,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.queue.backoff.ms": 5,
        }
    )
    partitions = set(consumer.list_topics(options.topic, ANSWER_LIMIT_SECONDS).topics[options.topic].partitions)
    assigned_at = []
    consumer.subscribe([options.topic], on_assign=lambda *_: assigned_at.append(time.monotonic()))
    region_of = regions()
    batch, next_offsets, records = [], {}, 0

    def commit():
        transactions = [
            Transaction(f"bench/{options.topic}/{partition}", offset) for partition, offset in next_offsets.items()
        ]
        write_deltalake(
            options.table,
            table(batch, region_of),
            mode="append",
            partition_by=["login_date"],
            commit_properties=CommitProperties(app_transactions=transactions),
        )
        offsets = [TopicPartition(options.topic, partition, offset) for partition, offset in next_offsets.items()]
        consumer.commit(offsets=offsets, asynchronous=False)

    while partitions:
        messages = consumer.consume(BATCH_RECORDS - len(batch), timeout=1.0)
        if not messages and assigned_at and time.monotonic() - assigned_at[0] > 1_500:
            raise SystemExit("the end of the topic was not reached")
        for message in messages:
            error = message.error()
            if error is None:
                batch.append(message)
                next_offsets[message.partition()] = message.offset() + 1
            elif error.code() == KafkaError._PARTITION_EOF:
                partitions.discard(message.partition())
            else:
                raise SystemExit(f"cannot read: {error}")
        if len(batch) >= BATCH_RECORDS:
            commit()
            records += len(batch)
            batch = []
    if batch:
        commit()
        records += len(batch)
    seconds = time.monotonic() - assigned_at[0]
    consumer.close()
    print(json.dumps({"records": records, "seconds": seconds}))


main()
