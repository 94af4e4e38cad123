# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A simulator behind PPX as a model (SC'19, Section 4.1)."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self

from etalumis.address import AddressTable
from etalumis.delegation import MAX_BATCH_RUNS, Answer, RunPlan, Steps
from etalumis.errors import EtalumisError, ProtocolError, RefusedError, SimulatorError
from etalumis.execution import Site, StatementReceiver
from etalumis.ppx.completion import finish_run
from etalumis.ppx.connection import Connection, PeerEnded, PeerSilent, is_busy
from etalumis.ppx.decode import Decoder
from etalumis.ppx.delegated import DelegatedTrace
from etalumis.ppx.encode import encode
from etalumis.ppx.failures import explain
from etalumis.ppx.messages import HandshakeResult, Message, Reset, RunResult
from etalumis.ppx.process import SimulatorProcess
from etalumis.ppx.requests import CHAIN_VERSION, DELEGATION_VERSION, PROPOSAL_VERSION
from etalumis.ppx.session import (
    Conversation,
    ModelFailed,
    RequestRefused,
    SessionLost,
    handshake_request,
    unexpected_message,
)
from etalumis.ppx.work_queue import split

_RESET = encode(Reset())
_RESET_TIMEOUT_S = 2.0
"""How long a peer may take to confirm that a run is abandoned."""
_COMPLETION_TIMEOUT_S = 10.0
"""How long a peer of PPX 1.0 that was not started here may take to complete a run that an exception broke off."""


class _ConnectionState(Enum):
    READY = "ready"
    STALE = "stale"  # unusable, but the simulator did not fail: the next run reconnects or restarts it
    FAILED = "failed"  # it died, hung or disconnected: the caller restarts it
    CLOSED = "closed"


class Simulator:
    """A simulator that speaks PPX: a model whose statements arrive over a socket. A context manager.

    With `command`, the simulator is started in its own process group and ended by `close`. With `endpoint` only, it
    must be running already: it is never restarted, and a run that an earlier client left unfinished is completed first.
    Not thread-safe; the thread that starts the process must outlive it.

    Parameters
    ----------
    command
        Program and arguments. The endpoint replaces `{endpoint}` in the arguments; if it does not occur, the endpoint
        becomes the first argument.
    endpoint
        ZeroMQ endpoint. With a command the default is a new ``ipc://`` path in a private temporary folder.
    timeout_s
        How long, in seconds, the simulator may take from one message to the next.
    start_timeout_s
        How long, in seconds, it may take from its start to its first answer.
    scratch
        Parent of the private folder (socket, logs).
    delegate
        Whether to use delegated runs if the simulator offers them; otherwise every draw is a message.

    Raises
    ------
    SimulatorError
        If it cannot be started, ends or does not answer; with exit code or signal, last address and the last lines that
        it wrote to standard error and standard output.
    ProtocolError
        If it sends an invalid or unexpected message.
    RefusedError
        If one of its statements is not supported.

    Examples
    --------
    ::

        with Simulator(["build/examples/gaussian"]) as simulator:
            trace = execution.run(simulator, Prior(rng), AddressTable())
    """

    def __init__(
        self,
        command: Sequence[str] | None,
        endpoint: str | None = None,
        timeout_s: float = 60.0,
        start_timeout_s: float = 60.0,
        scratch: Path | None = None,
        delegate: bool = True,
    ) -> None:
        if command is None and endpoint is None:
            raise SimulatorError("a simulator needs a command that starts it, or the endpoint on which it listens")
        self._command = command
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._start_timeout_s = start_timeout_s
        self._scratch = scratch
        self._version = DELEGATION_VERSION if delegate else 0
        self._process: SimulatorProcess | None = None
        self._connection: Connection | None = None
        self._state = _ConnectionState.CLOSED
        self._decoder = Decoder()
        self.handshake = HandshakeResult("", "")
        self._session = Conversation(self.handshake, "")
        self._run_s = 0.0  # mean duration of the runs of the last message; 0 before the first
        self.restart()

    @property
    def name(self) -> str:
        """Name of the model, from the handshake."""
        return self.handshake.model_name or self._label

    @property
    def pid(self) -> int | None:
        """Process id, if the simulator was started here."""
        return self._process.pid if self._process is not None else None

    def lines_with(self, text: str) -> list[str]:
        """Return the different lines with `text` on the standard error of the process, if it was started here."""
        return self._process.lines_with(text) if self._process is not None else []

    def run(self, execution: StatementReceiver) -> float | None:
        """Run the simulator once; return its result, or None if it is not a single number.

        A result of several numbers is recorded as the tag "result". An exception in `execution` ends the run and is
        passed on; the simulator can be run again afterwards. A peer that does not offer delegated runs first completes
        the run with draws from the prior.
        """
        with self._session_for_run() as session:
            result = session.run_interactively(execution, self._exchange)
        if result is None:
            return None
        if result.size > 1:
            execution.tag("result", result)
            return None
        return float(result.reshape(()))

    @property
    def delegates(self) -> bool:
        """Whether the simulator supports delegated and assisted runs."""
        return 0 < self._version <= self.handshake.delegation

    batch_runs = MAX_BATCH_RUNS
    concurrent = None

    def carry_out(self, plan: RunPlan, seeds: Sequence[int], addresses: AddressTable) -> list[DelegatedTrace]:
        """Have the simulator run once per seed, many runs per message; return the traces in the order of the seeds.

        The same plan and seed give the same trace, independent of earlier runs and of the process. The timeout of a
        message is `timeout_s` plus twenty times the expected duration of its runs. Raises as `run` does.
        """
        if not seeds:
            return []
        with self._session_for_run(addresses) as session, self._error_details():
            if len(seeds) > 1:
                # the first message has one run, to measure how long a run takes
                messages = [(plan, piece) for piece in split(seeds, alone=not self._run_s)]
                return self._carry_out_in_messages(session, messages, addresses)
            # fast path: a chain does this at every step
            return session.traces(self._answer(session.request(plan, seeds, addresses), 1), plan, seeds)

    @property
    def takes_proposals(self) -> bool:
        """Whether the simulator supports plans with proposed rows."""
        return self.delegates and self.handshake.proposals >= PROPOSAL_VERSION

    def carry_out_each(self, requests: Sequence[tuple[RunPlan, int]], addresses: AddressTable) -> list[DelegatedTrace]:
        """Have the simulator run each plan once with its seed, one run per message; otherwise as `carry_out`."""
        if not requests:
            return []
        with self._session_for_run(addresses) as session, self._error_details():
            return self._carry_out_in_messages(session, [(plan, (seed,)) for plan, seed in requests], addresses)

    @property
    def can_step(self) -> bool:
        """Whether the simulator can make the steps of a chain by itself."""
        return self.delegates and self.handshake.chains >= CHAIN_VERSION

    @property
    def stepper(self) -> Self | None:
        """The simulator, if it can make the steps of a chain by itself."""
        return self if self.can_step else None

    def take_steps(self, steps: Steps, addresses: AddressTable) -> tuple[list[tuple[int, int]], list[DelegatedTrace]]:
        """Have the simulator make steps of a chain, with one message; raise as `carry_out` does."""
        with self._session_for_run(addresses) as session, self._error_details():
            message, plan = session.request_steps(steps, addresses)
            return session.steps(self._answer(message, 1 + steps.number), plan, steps.number)

    def _answer(self, message: bytes, runs: int) -> Message:
        """Send a request for some runs and wait for its answer."""
        assert self._connection is not None  # ensured by _ready
        began = time.monotonic()
        answer = self._connection.request(message, self._timeout_s + 20.0 * runs * self._run_s)
        self._run_s = (time.monotonic() - began) / runs
        return self._decoder.decode(answer)

    def _carry_out_in_messages(
        self, session: Conversation, messages: Sequence[tuple[RunPlan, Sequence[int]]], addresses: AddressTable
    ) -> list[DelegatedTrace]:
        assert self._connection is not None  # ensured by _ready
        found: list[DelegatedTrace] = []
        self._connection.send(session.request(*messages[0], addresses))
        for number, (plan, seeds) in enumerate(messages, 1):
            if number < len(messages):  # sent ahead: the simulator works while this side reads
                self._connection.send(session.request(*messages[number], addresses), ahead=1)
            session.set_pending(seeds)
            began = time.monotonic()
            answer = self._connection.wait(self._timeout_s + 20.0 * len(seeds) * self._run_s)
            self._run_s = (time.monotonic() - began) / len(seeds)
            found += session.traces(self._decoder.decode(answer), plan, seeds)
        return found

    def assist(
        self, plan: RunPlan, seed: int, answer: Callable[[Site], Answer], addresses: AddressTable
    ) -> DelegatedTrace:
        """Run the simulator once with answers to controlled draws; it draws the others from `seed`.

        An exception in `answer` ends the run and is passed on, as in `run`.
        """
        with self._session_for_run(addresses) as session:
            return session.assist(plan, seed, answer, addresses, self._exchange)

    @property
    def can_restart(self) -> bool:
        """Whether the process was started here, so that it can be replaced by a new one."""
        return self._command is not None

    def restart(self) -> None:
        """End the process and start a new one; connect again if the process was not started here."""
        self.close()
        with ExitStack() as on_failure:
            on_failure.callback(self._release, _ConnectionState.FAILED)
            self._start()
            on_failure.pop_all()
        self._state = _ConnectionState.READY

    def close(self) -> None:
        """End the process started here and close the connection. May be called twice."""
        self._release(_ConnectionState.CLOSED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------ start

    @property
    def _label(self) -> str:
        return Path(self._command[0]).name if self._command else str(self._endpoint)

    def _start(self) -> None:
        self._session = Conversation(HandshakeResult("", ""), self._label)  # for error messages about the start
        endpoint = self._endpoint
        if self._command is not None:
            if endpoint is not None and is_busy(endpoint):
                raise SimulatorError(
                    f"cannot start {self._label}: another process listens on {endpoint}. "
                    "End it, choose another endpoint, or use `connect` if it is the simulator."
                )
            self._process = SimulatorProcess(self._command, endpoint, self._scratch)
            endpoint = self._process.endpoint
        assert endpoint is not None  # ensured by __init__
        self._connection = Connection(endpoint, self._process.ended if self._process is not None else None)
        self._shake_hands(self._finish_run(None, self._start_timeout_s) if self._process is None else None)

    def _shake_hands(self, answer: Message | None = None) -> None:
        """Begin a session, with a new handshake unless `answer` already is the answer to one."""
        began = time.monotonic()
        if not isinstance(answer, HandshakeResult):
            answer = self._exchange(handshake_request(self._version), self._start_timeout_s)
        if not isinstance(answer, HandshakeResult):
            raise unexpected_message(self.name, answer, "HandshakeResult", f"after {time.monotonic() - began:.1f} s")
        self.handshake = answer
        self._session = Conversation(answer, self.name, self._session.runs)

    def _ready(self, addresses: AddressTable | None = None) -> Conversation:
        """Return a session for the table `addresses`."""
        if self._state is _ConnectionState.STALE:
            self.restart()
        if self._state is not _ConnectionState.READY:
            raise SimulatorError(f"the simulator {self.name} is not running ({self._state.value}): call restart()")
        if self._process is not None:
            self._process.trim_logs()
        if addresses is not None and not self._session.can_use(addresses):
            self._shake_hands()
        return self._session

    # ------------------------------------------------------------------ run

    @contextmanager
    def _session_for_run(self, addresses: AddressTable | None = None) -> Iterator[Conversation]:
        """Provide the session for a run; an exception in the block also ends the run of the simulator."""
        session = self._ready(addresses)
        finished = False
        try:
            yield session
            finished = True
        except (ModelFailed, RequestRefused, SessionLost) as error:
            raise self._with_details(error) from error
        finally:
            if not finished:
                self._abandon()

    @contextmanager
    def _error_details(self) -> Iterator[None]:
        """Add details of the simulator to errors of the conversation."""
        try:
            yield
        except (PeerEnded, PeerSilent, ProtocolError, RefusedError) as error:
            raise self._with_details(error) from error

    def _abandon(self) -> None:
        """End a run after an exception. The connection is kept only if the peer confirms that the run is over."""
        if self._state is not _ConnectionState.READY or self._connection is None:
            return  # the simulator itself failed
        confirmed = False
        self._session.invalidate()
        try:
            confirmed = self._end_run(self._connection)
        except (SimulatorError, ProtocolError, RefusedError):
            pass  # the exception in progress says why the run ended
        finally:
            if not confirmed:
                self._release(_ConnectionState.STALE)

    def _end_run(self, connection: Connection) -> bool:
        """End a run; return whether the peer confirms that."""
        if self.handshake.delegation:
            answer = self._decoder.decode(connection.request(_RESET, min(self._timeout_s, _RESET_TIMEOUT_S)))
            return isinstance(answer, Reset)
        statement = self._session.unanswered
        timeout_s = min(self._timeout_s, _COMPLETION_TIMEOUT_S if self._process is None else _RESET_TIMEOUT_S)
        if connection.awaits_answer:
            statement = self._decoder.decode(connection.wait(timeout_s))
        return isinstance(self._finish_run(statement, timeout_s), RunResult | Reset)

    def _finish_run(self, statement: Message | None, timeout_s: float) -> Message:
        """Have the peer complete its run, if it is in one; return its last message."""
        deadline = time.monotonic() + timeout_s
        return finish_run(statement, lambda answer: self._exchange(answer, timeout_s), self._decoder, deadline)

    def _exchange(self, message: bytes, timeout_s: float | None = None) -> Message:
        """Send a message and return the answer; the default timeout is `timeout_s` of the simulator."""
        assert self._connection is not None
        try:
            return self._decoder.decode(
                self._connection.request(message, self._timeout_s if timeout_s is None else timeout_s)
            )
        except (PeerEnded, PeerSilent, ProtocolError, RefusedError) as error:
            raise self._with_details(error) from error

    def _release(self, state: _ConnectionState) -> None:
        self._state = state
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            self._process.stop()
            self._process = None

    # ------------------------------------------------------------------ errors

    def _with_details(self, error: SimulatorError | ProtocolError | RefusedError) -> EtalumisError:
        """Return an error with details of the simulator; end its process if it failed."""
        about = self._process.report() if self._process is not None else None
        explained = explain(error, self.name, self._session, about, str(self._endpoint))
        if isinstance(error, SessionLost):
            self._state = _ConnectionState.STALE  # the process serves another client
        elif isinstance(explained, SimulatorError):
            self._release(_ConnectionState.FAILED)
        return explained


def connect(endpoint: str, timeout_s: float = 60.0, start_timeout_s: float = 60.0) -> Simulator:
    """Connect to a running simulator that listens on `endpoint`; raise as `Simulator` does."""
    return Simulator(None, endpoint, timeout_s=timeout_s, start_timeout_s=start_timeout_s)
