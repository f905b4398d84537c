"""One Kafka broker and one MinIO server on free loopback ports, in folders that go away with them."""

import contextlib
import socket
import subprocess
import urllib.error
import urllib.request

from .install import KAFKA_CLASSES
from .machine import PARTS, BenchError, clean_environment, free_port
from .process import service, tail

# Sixteen bytes in base64, as Kafka's storage tool wants them; a cluster that lives for one run needs no better one.
CLUSTER_ID = "bG9naW5sYWtlLWJlbmNoMQ"
BROKER_HEAP = "1g"
BROKER_PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.quorum.voters=1@127.0.0.1:{controller_port}
log.dirs=data
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
log.segment.delete.delay.ms=1000
log.cleaner.dedupe.buffer.size=16777216
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
"""
MINIO_USER = "bench"
MINIO_PASSWORD = "only-on-loopback-for-one-run"


def accepts(port):
    """Does somebody listen at this port of loopback?"""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def kafka(folder):
    """A broker; gives its bootstrap address."""
    folder.mkdir()
    port, controller_port = free_port(), free_port()
    properties = BROKER_PROPERTIES.format(port=port, controller_port=controller_port)
    (folder / "server.properties").write_text(properties)
    java = ["java", f"-Xmx{BROKER_HEAP}", f"-Xms{BROKER_HEAP}", "-cp", KAFKA_CLASSES]
    format_storage = [*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", "server.properties"]
    log = folder / "format.log"
    with open(log, "wb") as out:
        formatted = subprocess.run(
            format_storage, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=clean_environment(),
            timeout=90, check=False,
        )
    if formatted.returncode != 0:
        raise BenchError(f"Kafka's storage cannot be formatted:\n{tail(log)}")
    start = [*java, "kafka.Kafka", "server.properties"]
    with service(start, folder, "kafka", cwd=folder, ready=lambda: accepts(port)):
        yield f"127.0.0.1:{port}"


class Minio:
    """A running MinIO server."""

    def __init__(self, data, port):
        self.data = data
        self.address = f"http://127.0.0.1:{port}"

    def environment(self):
        """The variables by which any S3 client finds it."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": MINIO_USER,
            "AWS_SECRET_ACCESS_KEY": MINIO_PASSWORD,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    def make_bucket(self, name):
        """Makes a bucket. A folder of MinIO's only drive is one."""
        (self.data / name).mkdir()

    def is_ready(self):
        """Does it say so?"""
        try:
            with urllib.request.urlopen(f"{self.address}/minio/health/ready", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False


@contextlib.contextmanager
def minio(folder):
    """A MinIO server."""
    data = folder / "data"
    data.mkdir(parents=True)
    port, console_port = free_port(), free_port()
    server = Minio(data, port)
    argv = [PARTS / "minio/minio", "server", data, "--address", f"127.0.0.1:{port}"]
    argv += ["--console-address", f"127.0.0.1:{console_port}"]
    environment = {
        "MINIO_ROOT_USER": MINIO_USER,
        "MINIO_ROOT_PASSWORD": MINIO_PASSWORD,
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
        "HOME": str(folder),
    }
    with service(argv, folder, "minio", environment=environment, ready=server.is_ready):
        yield server
