# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""One connection to a simulator: requests and answers in strict alternation, with an eye on the peer."""

import contextlib
import socket
import time
import weakref
from collections.abc import Callable

import zmq
from zmq.utils.monitor import parse_monitor_message

from etalumis.errors import SimulatorError

_SLICE_MS = 40
"""How long a wait goes on before the peer is looked at: a dead one is noticed within two of these."""
_MORE_FOLLOWS = int(zmq.SNDMORE)
_MESSAGE_BYTES = 1 << 30
_DYING_S = 0.5
"""How long after its socket a process that is dying may be there."""


class Connection:
    """A socket to `endpoint` for requests that are answered in order. Not for use by several threads at once.

    On the wire it is a REQ socket. A DEALER with the empty part that a REQ puts in front may have a second request
    under way, so that the simulator finds it when the first is done.

    Parameters
    ----------
    endpoint
        ZeroMQ endpoint on which the simulator listens, e.g. ``ipc:///tmp/sim`` or ``tcp://host:5555``.
    ended
        Tells how the peer's process ended, or None while it runs; None where the process is not ours to watch.
    context
        ZeroMQ context to share with other connections: they then watch their processes alone, not their sockets.

    Raises
    ------
    SimulatorError
        Where `endpoint` is no endpoint.
    """

    def __init__(
        self,
        endpoint: str,
        ended: Callable[[], str | None] | None,
        context: "zmq.Context[zmq.Socket[bytes]] | None" = None,
    ) -> None:
        self.endpoint = endpoint
        self._ended = ended
        self._lost = False
        self._reached = False
        own = zmq.Context() if context is None else None
        self._socket = (own or context or zmq.Context.instance()).socket(zmq.DEALER)
        self._due = 0  # answers
        # Closed with this object, and when the interpreter ends without it: an open socket would hang its exit.
        self._close = weakref.finalize(self, own.destroy if own is not None else self._socket.close, linger=0)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVTIMEO, _SLICE_MS)
        self._socket.setsockopt(zmq.SNDTIMEO, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, _MESSAGE_BYTES)
        # A simulator that starts binds after this connects: look often.
        self._socket.setsockopt(zmq.RECONNECT_IVL, 5)
        events = zmq.EVENT_CONNECTED | zmq.EVENT_DISCONNECTED
        self._monitor = self._socket.get_monitor_socket(events) if own is not None else None
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise SimulatorError(
                f"{endpoint!r} is no ZeroMQ endpoint ({error.strerror}); expected ipc://PATH or tcp://HOST:PORT"
            ) from error

    @property
    def socket(self) -> "zmq.Socket[bytes]":
        """What to poll for an answer."""
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
            Where the simulator's process has ended, or the connection to it broke off.
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
        """Send `message`; raises `PeerSilent` where more than `ahead` answers to earlier ones are still due."""
        if self._due > ahead:  # an exception broke off the wait for it: the next answer would be taken for another's
            raise PeerSilent("cannot be sent to (its answer to an earlier message is due)")
        self._due += 1  # before: a signal may come as soon as the message is out
        try:
            self._socket.send(b"", _MORE_FOLLOWS)
            self._socket.send(message)
        except zmq.ZMQError as error:
            self._due -= 1
            raise PeerSilent(f"cannot be sent to ({error.strerror})") from error

    def receive(self) -> bytes | None:
        """Return the answer if it is there."""
        try:
            return self._answer(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def close(self) -> None:
        """Close the socket; what was not sent yet is dropped. May be called twice."""
        if self._close.alive:
            if self._monitor is not None:
                self._socket.disable_monitor()
                self._monitor.close()
            self._close()

    def _answer(self, flags: int) -> bytes:
        """Receive one answer; what has not the parts of one comes out as a message that is none."""
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
            # Looked at before the wait: what the peer sent with its last breath is still received.
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
            deadline = time.monotonic() + _DYING_S
            while (why := self._ended()) is None and time.monotonic() < deadline:
                time.sleep(0.002)
            why = why or broke_off
        return why

    def _disconnected(self) -> str | None:
        while self._monitor is not None and self._monitor.poll(0):
            event = parse_monitor_message(self._monitor.recv_multipart())["event"]
            self._reached = True
            self._lost = self._lost or event == zmq.EVENT_DISCONNECTED
        return f"broke off the connection to {self.endpoint}" if self._lost else None


class PeerEnded(SimulatorError):
    """The simulator's process has ended, or the connection to it broke off."""


class PeerSilent(SimulatorError):
    """The simulator did not answer in time."""


class PeerAbsent(PeerSilent):
    """No connection to the simulator came about in time."""


def more_time(key: str) -> str:
    """Return the line of an error message that says how to wait longer for a simulator."""
    return f"\n  if it is only slow, allow it more time: {key} (simulator.{key} in a configuration)"


def is_busy(endpoint: str) -> bool:
    """Return whether something listens on `endpoint` already.

    A simulator told to bind there would fail, while whoever listens would answer in its place.
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
