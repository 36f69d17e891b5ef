"""A TCP proxy that counts the HTTP/2 frames passing through it."""

import collections
import socket
import threading

PREFACE = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
PING, GOAWAY = 0x6, 0x7
ACK = 0x1


class FrameCounter:
    """Forwards to `address`; `to_server` and `to_client` count (frame type, is ack)."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = []
        self.connections = 0
        self.to_server = collections.Counter()
        self.to_client = collections.Counter()
        self.address = "127.0.0.1:%d" % self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.create_connection(self._target)
            self._sockets += [client, server]
            for source, target, skip, counts in (
                (client, server, PREFACE, self.to_server),
                (server, client, 0, self.to_client),
            ):
                threading.Thread(
                    target=self._forward, args=(source, target, skip, counts), daemon=True
                ).start()

    @staticmethod
    def _forward(source, target, skip, counts):
        pending = b""
        try:
            while data := source.recv(65536):
                target.sendall(data)
                if skip:
                    cut = min(skip, len(data))
                    skip, data = skip - cut, data[cut:]
                pending += data
                while len(pending) >= 9:
                    size = 9 + int.from_bytes(pending[:3], "big")
                    if len(pending) < size:
                        break
                    kind, flags = pending[3], pending[4]
                    counts[kind, bool(flags & ACK) and kind == PING] += 1
                    pending = pending[size:]
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self._listener.close()
        for end in self._sockets:
            end.close()
