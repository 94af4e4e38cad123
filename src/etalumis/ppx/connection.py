# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""One connection to a simulator: requests and answers in order, and detection of a peer that has ended."""

import contextlib
import re
import socket
import time
import weakref
from collections.abc import Callable

import zmq
from zmq.utils.monitor import parse_monitor_message

from etalumis.errors import SimulatorError

_POLL_MS = 40
"""Interval at which a waiting client checks the peer: a dead peer is noticed within two intervals."""
_MORE_FOLLOWS = int(zmq.SNDMORE)
_MAX_MESSAGE_BYTES = 1 << 30
_EXIT_TIMEOUT_S = 0.5
"""How long a process may take to exit after its socket has closed."""


_MAX_PORT = 65_535


def has_valid_port(endpoint: str) -> bool:
    """Return whether the port of an endpoint, if it has one, exists; ZeroMQ would take it modulo 65536."""
    port = re.fullmatch(r"tcp://.*:(\d+)", endpoint)
    return port is None or int(port[1]) <= _MAX_PORT


class Connection:
    """A socket to `endpoint` for requests that are answered in order. Not thread-safe.

    Peers see a REQ socket. It is a DEALER that sends the empty first part of a REQ itself. In contrast to a REQ it can
    send a second request before the first is answered, so that the simulator never waits for the next one.

    Parameters
    ----------
    endpoint
        ZeroMQ endpoint on which the simulator listens, e.g. ``ipc:///tmp/sim`` or ``tcp://host:5555``.
    ended
        Returns how the process of the peer ended, or None while it runs. None if the process was not started here.
    context
        ZeroMQ context shared with other connections; such connections watch processes only, not sockets.

    Raises
    ------
    SimulatorError
        If `endpoint` is not a valid endpoint.
    """

    def __init__(
        self,
        endpoint: str,
        ended: Callable[[], str | None] | None,
        context: "zmq.Context[zmq.Socket[bytes]] | None" = None,
    ) -> None:
        if not has_valid_port(endpoint):
            raise SimulatorError(f"{endpoint!r} is not a ZeroMQ endpoint; expected a port from 0 to {_MAX_PORT}")
        self.endpoint = endpoint
        self._ended = ended
        self._lost = False
        self._reached = False
        own = zmq.Context() if context is None else None
        self._socket = (own or context or zmq.Context.instance()).socket(zmq.DEALER)
        self._due = 0  # number of answers
        # Closed with this object or at exit of the interpreter, which an open socket would block.
        self._close = weakref.finalize(self, own.destroy if own is not None else self._socket.close, linger=0)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVTIMEO, _POLL_MS)
        self._socket.setsockopt(zmq.SNDTIMEO, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, _MAX_MESSAGE_BYTES)
        # A simulator that is starting binds after this socket connects: retry often.
        self._socket.setsockopt(zmq.RECONNECT_IVL, 5)
        events = zmq.EVENT_CONNECTED | zmq.EVENT_DISCONNECTED
        self._monitor = self._socket.get_monitor_socket(events) if own is not None else None
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise SimulatorError(
                f"{endpoint!r} is not a ZeroMQ endpoint ({error.strerror}); expected ipc://PATH or tcp://HOST:PORT"
            ) from error

    @property
    def socket(self) -> "zmq.Socket[bytes]":
        """The socket to poll for an answer."""
        return self._socket

    @property
    def awaits_answer(self) -> bool:
        """Whether an answer to an earlier message is still to come."""
        return self._due > 0

    def request(self, message: bytes, timeout_s: float) -> bytes:
        """Send `message` and return the answer.

        Raises
        ------
        PeerEnded
            If the process of the simulator has ended, or the connection was lost.
        PeerSilent
            If nothing came for `timeout_s` seconds.
        """
        self.send(message)
        return self.wait(timeout_s)

    def wait(self, timeout_s: float) -> bytes:
        """Return the answer to what was sent; raises as `request` does."""
        try:
            return self._answer(0)
        except zmq.Again:
            return self._wait(timeout_s)

    def send(self, message: bytes, ahead: int = 0) -> None:
        """Send `message`; raise `PeerSilent` if more than `ahead` answers are still to come."""
        if self._due > ahead:  # an exception interrupted the wait: the next answer would belong to an earlier message
            raise PeerSilent("has not answered an earlier message")
        self._due += 1  # before sending: a signal may arrive right after it
        try:
            self._socket.send(b"", _MORE_FOLLOWS)
            self._socket.send(message)
        except zmq.ZMQError as error:
            self._due -= 1
            raise PeerSilent(f"accepts no message ({error.strerror})") from error

    def receive(self) -> bytes | None:
        """Return the answer if it has arrived, else None."""
        try:
            return self._answer(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def close(self) -> None:
        """Close the socket and drop unsent messages. May be called twice."""
        if self._close.alive:
            if self._monitor is not None:
                self._socket.disable_monitor()
                self._monitor.close()
            self._close()

    def _answer(self, flags: int) -> bytes:
        """Receive one answer; return b"", which is not valid PPX, if it does not have two parts."""
        if self._socket.recv(flags):
            self._due -= 1
            return b""
        answer = self._socket.recv(copy=False)
        self._due -= 1
        if answer.more:
            while answer.more:
                answer = self._socket.recv(copy=False)
            return b""
        return answer.bytes

    def _wait(self, timeout_s: float) -> bytes:
        deadline = time.monotonic() + timeout_s
        while True:
            # Checked before the wait, so that the last message of a peer that has ended is received.
            why = self._gone()
            late = time.monotonic() >= deadline
            with contextlib.suppress(zmq.Again):
                return self._answer(0)
            if why is not None:
                raise PeerEnded(why)
            if late and self._ended is None and not self._reached:
                raise PeerAbsent(f"cannot be reached: no connection within {timeout_s:g} s")
            if late:
                raise PeerSilent(f"did not answer within {timeout_s:g} s")

    def _gone(self) -> str | None:
        if self._ended is None:
            return self._disconnected()
        why = self._ended()
        if why is None and (broke_off := self._disconnected()) is not None:
            deadline = time.monotonic() + _EXIT_TIMEOUT_S
            while (why := self._ended()) is None and time.monotonic() < deadline:
                time.sleep(0.002)
            why = why or broke_off
        return why

    def _disconnected(self) -> str | None:
        while self._monitor is not None and self._monitor.poll(0):
            event = parse_monitor_message(self._monitor.recv_multipart())["event"]
            self._reached = True
            self._lost = self._lost or event == zmq.EVENT_DISCONNECTED
        return f"lost the connection to {self.endpoint}" if self._lost else None


class PeerEnded(SimulatorError):
    """The process of the simulator has ended, or the connection to it was lost."""


class PeerSilent(SimulatorError):
    """The simulator did not answer in time."""


class PeerAbsent(PeerSilent):
    """No connection to the simulator could be made in time."""


def more_time(key: str) -> str:
    """Return the line of an error message that says how to wait longer for a simulator."""
    return f"\n  if it is only slow, increase {key} (simulator.{key} in a configuration)"


def is_busy(endpoint: str) -> bool:
    """Return whether another process already listens on `endpoint`.

    A simulator could not bind there, and the other process would receive its messages.
    """
    scheme, _, address = endpoint.partition("://")
    with contextlib.ExitStack() as stack:
        try:
            if scheme == "tcp":
                host, _, port = address.rpartition(":")
                probe = socket.create_connection((host.strip("[]"), int(port)), timeout=2)
            elif scheme == "ipc":
                probe = stack.enter_context(socket.socket(socket.AF_UNIX))
                probe.connect("\0" + address[1:] if address.startswith("@") else address)
            else:
                return False
        except (OSError, ValueError):
            return False
        probe.close()
        return True
