# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A ZeroMQ reply socket written in bytes (ZMTP 3.0, NULL mechanism), which can send truncated messages."""

import socket
import struct

LONG, MORE, COMMAND = 2, 1, 4
READY = b"\x05READY" + b"\x0bSocket-Type" + struct.pack(">I", 3) + b"REP"


class Listener:
    """Listens on a free port of this machine; `accept` connects to one client."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(20)
        self.endpoint = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"

    def accept(self) -> "Replier":
        return Replier(self._server.accept()[0])

    def close(self) -> None:
        self._server.close()


class Replier:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        connection.settimeout(20)
        connection.sendall(b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
        self._read(64)
        connection.sendall(bytes((COMMAND, len(READY))) + READY)
        self._frame()  # the client's READY

    def receive(self) -> bytes:
        """Return a request without its envelope."""
        while True:
            flags, body = self._frame()
            if not flags & (MORE | COMMAND):
                return body

    def send(self, message: bytes, *, only: int | None = None) -> None:
        """Send a reply, or only its first `only` bytes; the frame announces the full length."""
        content = bytes((MORE, 0)) + bytes((LONG,)) + struct.pack(">Q", len(message)) + message
        self._connection.sendall(content if only is None else content[: len(content) - len(message) + only])

    def close(self) -> None:
        self._connection.close()

    def _frame(self) -> tuple[int, bytes]:
        (flags,) = self._read(1)
        size = struct.unpack(">Q", self._read(8))[0] if flags & LONG else self._read(1)[0]
        return flags, self._read(size)

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._connection.recv(count - len(data))
            if not more:
                raise ConnectionError("the client has gone")
            data += more
        return data
