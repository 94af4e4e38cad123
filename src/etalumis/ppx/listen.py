# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The simulator's end of a connection: where it listens, and its socket."""

import contextlib
import os
import re
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import zmq

from etalumis.errors import ConfigError, SimulatorError
from etalumis.ppx.connection import is_busy

DEFAULT_PORT = 5555
"""The customary port of PPX."""
_LARGEST_REQUEST = 16 << 20
"""Bytes. The largest request is a value or a greeting; beyond this a peer is confused or hostile, and is dropped."""
_LOOPBACK = re.compile(r"tcp://(127\.\d+\.\d+\.\d+|localhost|\[::1\]):")


def endpoint_of(address: str) -> str:
    """Return the endpoint that a user means.

    Parameters
    ----------
    address
        ``ipc://PATH``, ``tcp://INTERFACE:PORT``, or a port alone (``5555`` or ``:5555``), which means the loopback
        interface: other machines are let in only where the interface is written out.

    Raises
    ------
    ConfigError
        Where it is none of these.
    """
    if re.fullmatch(r":?(\d{1,5}|\*)", address):
        return f"tcp://127.0.0.1:{address.lstrip(':')}"
    if re.fullmatch(r"ipc://.+|tcp://\S+:(\d{1,5}|\*)", address):
        return address
    raise ConfigError(
        f"address {address!r}: expected ipc://PATH, tcp://INTERFACE:PORT, or a port alone, e.g. {DEFAULT_PORT}, "
        "which is served on this machine only (tcp://127.0.0.1)"
    )


def is_open_to_others(endpoint: str) -> bool:
    """Return whether other machines can connect to a bound endpoint."""
    return endpoint.startswith("tcp://") and _LOOPBACK.match(endpoint) is None


class Request(NamedTuple):
    """A message and the way back to its sender."""

    sender: tuple[bytes, ...]
    data: bytes


class Listener:
    """A socket bound to `endpoint` for REQ peers. A context manager; a socket's file is removed at its end.

    It is a ROUTER, not a REP: that one does not tell its peers apart, so that what one client sends late would be taken
    for the answer of another one whose run is under way.

    Raises
    ------
    SimulatorError
        Where it cannot be bound, or another process listens there.
    """

    def __init__(self, endpoint: str) -> None:
        if endpoint.startswith("ipc://") and is_busy(endpoint):
            # ZeroMQ would take the path over, and the other process would wait for ever
            raise SimulatorError(f"cannot listen on {endpoint}: in use by another process; choose another path")
        self._file: tuple[Path, os.stat_result] | None = None
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, _LARGEST_REQUEST)
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
        """Return the next message; None where there is none in time. One of several parts comes out empty."""
        if not self._socket.poll(round(1000 * timeout_s)):
            return None
        parts = self._socket.recv_multipart()
        if b"" not in parts:
            return None  # no REQ peer: there is no way to answer it
        end = parts.index(b"") + 1
        body = parts[end:]
        return Request(tuple(parts[:end]), body[0] if len(body) == 1 else b"")

    def send(self, receiver: tuple[bytes, ...], message: bytes) -> None:
        """Answer a peer; dropped where it has gone."""
        self._socket.send_multipart((*receiver, message))

    def close(self) -> None:
        """Close the socket. May be called twice."""
        self._context.destroy(linger=0)
        if self._file is not None:
            path, mine = self._file
            self._file = None
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(path.stat(), mine):  # else another process has taken the path over
                    path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
