# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""One worker of a pool, as seen by the client: its connection, its process and its task."""

import contextlib
import math
import os
import re
import time
from enum import Enum

import zmq

from etalumis.address import AddressTable
from etalumis.errors import SimulatorError
from etalumis.ppx.connection import Connection
from etalumis.ppx.decode import Decoder
from etalumis.ppx.messages import HandshakeResult, Message
from etalumis.ppx.process import OtherProcess
from etalumis.ppx.requests import DELEGATION_VERSION
from etalumis.ppx.session import Conversation, handshake_request, unexpected_message
from etalumis.ppx.work_queue import Task

Context = zmq.Context[zmq.Socket[bytes]]

_HANDSHAKE_RETRY_S = 2.0
"""Time after which an unanswered handshake is sent again: the worker may have died with the first one."""
_SYSTEM_NAME = re.compile(r"worker (\d+) \(pid (\d+)\)$")
_HANDSHAKE_TIMEOUT_S = 10.0
"""How long an idle worker may take to answer a handshake."""


class WorkerState(Enum):
    """What a worker is doing."""

    HANDSHAKE = "handshake"  # a handshake was sent
    READY = "ready"
    BUSY = "busy"
    BROKEN = "broken"  # an exchange was interrupted, so both sides may disagree about the session


class Worker:
    """One worker, from its first handshake on; if it dies, also the worker that replaces it.

    Parameters
    ----------
    number, endpoint
        Number of the worker, and the endpoint on which it listens.
    group
        Session id (`setsid`) of all processes of the pool.
    name
        Name of the simulator in messages.
    """

    def __init__(self, number: int, endpoint: str, group: int, name: str, context: Context, timeout_s: float) -> None:
        self.number, self.endpoint = number, endpoint
        self._group, self._name, self._context, self._timeout_s = group, name, context, timeout_s
        self._decoder = Decoder()
        self.state = WorkerState.BROKEN
        self.process: OtherProcess | None = None
        self.session: Conversation | None = None
        self.task: Task | None = None
        self.failures = 0
        """Number of consecutive failed handshakes and tasks."""
        self.lost_at = 0.0
        """Time at which the previous worker was lost, in the time of `time.monotonic`."""
        self._connection: Connection | None = None
        self._sent_at = 0.0

    @property
    def socket(self) -> "zmq.Socket[bytes]":
        """The socket to poll for an answer."""
        assert self._connection is not None
        return self._connection.socket

    @property
    def label(self) -> str:
        """Its name on the standard error of the simulator."""
        return f"worker {self.number} (pid {self.process.pid})" if self.process else f"worker {self.number}"

    def start_session(self) -> None:
        """Begin a session over a new connection, with this worker or its replacement."""
        self.session, self.process, self.task = None, None, None
        self.lost_at = time.monotonic()
        self._connect()

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def assign(self, task: Task) -> None:
        """Send the request for a task."""
        assert self._connection is not None
        self.state, self.task = WorkerState.BROKEN, task  # until it has been sent: an exception may interrupt this
        session = self.session_for(task.work.addresses)
        self._connection.send(session.request(task.plan, task.seeds, task.work.addresses))
        self._sent_at = time.monotonic()
        self.state = WorkerState.BUSY

    def receive(self) -> bool:
        """Receive an answer, if there is one, and store its traces; return whether there was one.

        Raises
        ------
        SimulatorError, ProtocolError
            If it is not the answer to the request.
        """
        assert self._connection is not None
        message = self._connection.receive()
        if message is None:
            return False
        previous, self.state = self.state, WorkerState.BROKEN
        answer = self._decoder.decode(message)
        if previous is WorkerState.HANDSHAKE:
            self._accept_handshake(answer)
        else:
            assert self.session is not None
            assert self.task is not None
            traces = self.session.traces(answer, self.task.plan, self.task.seeds)
            self.task.work.complete(self.task, traces, time.monotonic() - self._sent_at)
            self.task = None
        self.failures = 0
        self.state = WorkerState.READY
        return True

    def check(self, now: float) -> str | None:
        """Return what is wrong with the worker, or None; send an unanswered handshake again."""
        if self.state is WorkerState.BROKEN:
            return "was interrupted"
        if self.process is not None and self.process.ended():
            return "ended"
        if self.state is WorkerState.BUSY and self.task is not None:
            # tasks with many runs take only about TARGET_BATCH_S, so their timeout need not be longer
            late = now - self._sent_at > self._timeout_s
            return f"did not answer within {self._timeout_s:g} s" if late else None
        if self.state is WorkerState.HANDSHAKE and now - self._sent_at > _HANDSHAKE_RETRY_S:
            self._connect()
        return None

    def session_for(self, addresses: AddressTable) -> Conversation:
        """Return its session, or a new one if it belongs to another address table."""
        assert self.session is not None
        if not self.session.can_use(addresses):
            self._accept_handshake(self.exchange(handshake_request(DELEGATION_VERSION), _HANDSHAKE_TIMEOUT_S))
        return self.session

    def exchange(self, message: bytes, max_wait_s: float = math.inf) -> Message:
        """Send a message and return the answer; wait at most `max_wait_s` seconds or the timeout of a run."""
        assert self._connection is not None
        return self._decoder.decode(self._connection.request(message, min(self._timeout_s, max_wait_s)))

    def _connect(self) -> None:
        self.close()
        self._connection = Connection(self.endpoint, self._ended, self._context)
        self._connection.send(handshake_request(DELEGATION_VERSION))
        self._sent_at = time.monotonic()
        self.state = WorkerState.HANDSHAKE

    def _accept_handshake(self, answer: Message) -> None:
        if not isinstance(answer, HandshakeResult):
            raise unexpected_message(self._name, answer, "HandshakeResult", "at the start")
        found = _SYSTEM_NAME.search(answer.system_name)
        if answer.delegation < DELEGATION_VERSION or found is None or int(found[1]) != self.number:
            raise SimulatorError(
                f"the simulator {self._name} answers at {self.endpoint} as {answer.system_name!r}, with delegated runs "
                f"{answer.delegation}; expected worker {self.number} of ppx::serve_workers, with {DELEGATION_VERSION}"
            )
        pid = int(found[2])
        if self.process is None or self.process.pid != pid:
            process = OtherProcess(pid)
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(pid) != self._group:
                    raise SimulatorError(f"the simulator {self._name} says it has pid {pid}, which is another program")
            self.process = process
        runs = self.session.runs if self.session is not None else 0
        self.session = Conversation(answer, answer.model_name or self._name, runs)

    def _ended(self) -> str | None:
        return "ended" if self.process is not None and self.process.ended() else None
