"""A slow way to a server: a proxy on loopback that lets so many bytes a second through, all connections together."""

import contextlib
import socket
import threading
import time

PIECE_BYTES = 64 * 1024


class Rate:
    """When the next bytes may pass: a virtual schedule that all connections share."""

    def __init__(self, bytes_per_second):
        self.bytes_per_second = bytes_per_second
        self.free_at = time.monotonic()
        self.lock = threading.Lock()

    def wait(self, count):
        """Waits until `count` more bytes may pass."""
        with self.lock:
            now = time.monotonic()
            self.free_at = max(self.free_at, now) + count / self.bytes_per_second
            delay = self.free_at - now
        time.sleep(delay)


def pump(source, sink, rate):
    """Passes bytes on until one side closes."""
    with contextlib.suppress(OSError):
        while piece := source.recv(PIECE_BYTES):
            if rate:
                rate.wait(len(piece))
            sink.sendall(piece)
    for side in (source, sink):
        with contextlib.suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)


def serve(listener, server, rate):
    """Accepts connections until the listener is closed. Only what goes to the server is slow."""
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            upstream = socket.create_connection(server)
            for source, sink, limit in ((client, upstream, rate), (upstream, client, None)):
                threading.Thread(target=pump, args=(source, sink, limit), daemon=True).start()


@contextlib.contextmanager
def throttled(port, bytes_per_second):
    """A proxy before a port of loopback; gives the port to connect to instead."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        arguments = (listener, ("127.0.0.1", port), Rate(bytes_per_second))
        threading.Thread(target=serve, args=arguments, daemon=True).start()
        yield listener.getsockname()[1]
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
