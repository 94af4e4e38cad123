# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The simulator side of a connection: endpoints and the listening socket."""

import contextlib
import os
import re
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import zmq

from etalumis.errors import ConfigError, SimulatorError
from etalumis.ppx.connection import has_valid_port, is_busy

DEFAULT_PORT = 5555
"""The usual port of PPX."""
_MAX_REQUEST_BYTES = 16 << 20
"""The largest valid request is a value or a handshake. A peer that sends more is faulty or hostile, and is dropped."""
_LAST_MESSAGE_TIMEOUT_MS = 2_000
_LOOPBACK = re.compile(r"tcp://(127\.\d+\.\d+\.\d+|localhost|\[::1\]):")


def endpoint_of(address: str) -> str:
    """Return the endpoint of an address given by the user.

    Parameters
    ----------
    address
        ``ipc://PATH``, ``tcp://INTERFACE:PORT``, or only a port (``5555`` or ``:5555``), which means the loopback
        interface. Other machines can connect only if an interface is given.

    Raises
    ------
    ConfigError
        If it is none of these.
    """
    endpoint = f"tcp://127.0.0.1:{address.lstrip(':')}" if re.fullmatch(r":?(\d+|\*)", address) else address
    if re.fullmatch(r"ipc://.+|tcp://\S+:(\d+|\*)", endpoint) and has_valid_port(endpoint):
        return endpoint
    raise ConfigError(
        f"address {address!r}: expected ipc://PATH, tcp://INTERFACE:PORT, or only a port up to 65535, e.g. "
        f"{DEFAULT_PORT}, which is served on this machine only (tcp://127.0.0.1)"
    )


def is_open_to_others(endpoint: str) -> bool:
    """Return whether other machines can connect to a bound endpoint."""
    return endpoint.startswith("tcp://") and _LOOPBACK.match(endpoint) is None


class Request(NamedTuple):
    """A message and the identity of its sender."""

    sender: tuple[bytes, ...]
    data: bytes


class Listener:
    """A socket bound to `endpoint` for REQ peers. A context manager, which removes the socket file at the end.

    It is a ROUTER, because a REP socket does not distinguish its peers: a late message of one client would be taken for
    an answer of another client in a run.

    Raises
    ------
    SimulatorError
        If it cannot be bound, or another process listens there.
    """

    def __init__(self, endpoint: str) -> None:
        if endpoint.startswith("ipc://") and is_busy(endpoint):
            # ZeroMQ would replace the socket file, and the other process would receive nothing more
            raise SimulatorError(f"cannot listen on {endpoint}: in use by another process; choose another path")
        self._file: tuple[Path, os.stat_result] | None = None
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, _MAX_REQUEST_BYTES)
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise SimulatorError(
                f"cannot listen on {endpoint}: {error.strerror}; expected a free ipc://PATH of at most 107 bytes in a "
                "folder that exists, or tcp://INTERFACE:PORT with an interface of this machine and a free port"
            ) from error
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        path = Path(self.endpoint.removeprefix("ipc://"))
        if self.endpoint.startswith("ipc:///") and path.exists():
            self._file = path, path.stat()

    def receive(self, timeout_s: float) -> Request | None:
        """Return the next message, or None if none arrives in time. A message of several parts is returned as b""."""
        if not self._socket.poll(round(1000 * timeout_s)):
            return None
        parts = self._socket.recv_multipart()
        if b"" not in parts:
            return None  # not from a REQ peer: it cannot be answered
        end = parts.index(b"") + 1
        body = parts[end:]
        return Request(tuple(parts[:end]), body[0] if len(body) == 1 else b"")

    def send(self, receiver: tuple[bytes, ...], message: bytes) -> None:
        """Answer a peer; the message is dropped if the peer has disconnected."""
        self._socket.send_multipart((*receiver, message))

    def send_last(self, receiver: tuple[bytes, ...], message: bytes) -> None:
        """Answer a peer and close the socket, once the message is sent or the peer has not taken it in time."""
        self.send(receiver, message)
        self.close(_LAST_MESSAGE_TIMEOUT_MS)

    def close(self, linger_ms: int = 0) -> None:
        """Close the socket and drop what is not sent within `linger_ms` milliseconds. May be called twice."""
        self._context.destroy(linger=linger_ms)
        if self._file is not None:
            path, mine = self._file
            self._file = None
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(path.stat(), mine):  # otherwise another process has replaced the file
                    path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
