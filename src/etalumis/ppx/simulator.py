# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""A simulator behind PPX as a model (SC'19, Section 4.1)."""

import time
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self

from etalumis import __version__
from etalumis.errors import ProtocolError, SimulatorError
from etalumis.execution import Execution
from etalumis.ppx.connection import Connection, PeerEnded, PeerSilent, is_busy
from etalumis.ppx.decode import Decoder
from etalumis.ppx.encode import encode, sample_result
from etalumis.ppx.messages import (
    Array,
    Handshake,
    HandshakeResult,
    Message,
    Observe,
    ObserveResult,
    Reset,
    Run,
    RunResult,
    Sample,
    Tag,
    TagResult,
)
from etalumis.ppx.process import SimulatorProcess

_RUN = encode(Run())
_RESET = encode(Reset())
_OBSERVE_RESULT = encode(ObserveResult())
_TAG_RESULT = encode(TagResult())
_ABANDON_S = 2.0
"""How long a peer may take to agree that a run is abandoned."""


class _State(Enum):
    READY = "ready"
    STALE = "stale"  # unusable through no fault of the simulator's: the next run starts afresh
    FAILED = "failed"  # it died, hung or broke off: the caller restarts
    CLOSED = "closed"


class Simulator:
    """A simulator that speaks PPX: a model whose statements arrive over a socket. A context manager.

    With `command` it is started here, in a process group of its own, and ended by `close`; with `endpoint` alone it
    runs already and is only talked to. Not for use by several threads at once; the thread that starts the process
    has to outlive it.

    Parameters
    ----------
    command
        Program and arguments. The endpoint becomes the first argument, or takes the place of `{endpoint}` where an
        argument has that.
    endpoint
        ZeroMQ endpoint. With a command the default is a fresh ``ipc://`` path in a private temporary folder.
    timeout_s
        How long, in seconds, the simulator may take from one message to the next.
    start_timeout_s
        How long it may take from its start to its first answer.
    scratch
        Folder in which the private folder (socket, log of standard error) is made.

    Raises
    ------
    SimulatorError
        Where it cannot be started, ends or stays silent, with exit code or signal, last address and the tail of what
        it wrote to standard error.
    ProtocolError
        Where it answers something other than PPX, or out of turn.

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
    ) -> None:
        if command is None and endpoint is None:
            raise SimulatorError("a simulator needs a command that starts it, or the endpoint where it listens")
        self._command = command
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._start_timeout_s = start_timeout_s
        self._scratch = scratch
        self._process: SimulatorProcess | None = None
        self._connection: Connection | None = None
        self._state = _State.CLOSED
        self._runs = 0
        self._draws = 0
        self._last_address = ""
        self._decoder = Decoder()
        self.handshake = HandshakeResult("", "")
        self.restart()

    @property
    def name(self) -> str:
        """Name of the model, as the simulator gave it in the handshake."""
        return self.handshake.model_name or self._label

    @property
    def pid(self) -> int | None:
        """Process id of a simulator started here."""
        return self._process.pid if self._process is not None else None

    def run(self, execution: Execution) -> float | None:
        """Run the simulator once; return its result, or None where it is not a single number.

        A result of several numbers is recorded as the tag "result". Whatever `execution` raises ends the run and
        passes through; the simulator can be run again afterwards.
        """
        self._make_ready()
        self._runs += 1
        self._draws, self._last_address = 0, ""
        finished = False
        try:
            result = self._converse(execution)
            finished = True
        finally:
            if not finished:
                self._abandon()
        if result is None:
            return None
        if result.size > 1:
            execution.tag("result", result)
            return None
        return float(result.reshape(()))

    def restart(self) -> None:
        """End the process, if there is one, start a fresh one and shake hands anew."""
        self.close()
        started = False
        try:
            self._start()
            started = True
        finally:
            if not started:
                self._release(_State.FAILED)
        self._state = _State.READY

    def close(self) -> None:
        """End the process started here and close the connection. May be called twice."""
        self._release(_State.CLOSED)

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
        self._runs = self._draws = 0
        self._last_address = ""
        endpoint = self._endpoint
        if self._command is not None:
            if endpoint is not None and is_busy(endpoint):
                raise SimulatorError(
                    f"cannot start {self._label}: something listens on {endpoint} already. "
                    "End it, choose another endpoint, or give the endpoint alone to talk to what runs there."
                )
            self._process = SimulatorProcess(self._command, endpoint, self._scratch)
            endpoint = self._process.endpoint
        assert endpoint is not None  # __init__ saw to it
        self._connection = Connection(endpoint, self._process.ended if self._process is not None else None)
        began = time.monotonic()
        greeting = encode(Handshake(f"etalumis {__version__}"))
        answer = self._ask(greeting, self._start_timeout_s)
        if not isinstance(answer, HandshakeResult):
            raise self._out_of_turn(answer, "HandshakeResult", f"after {time.monotonic() - began:.1f} s")
        self.handshake = answer

    def _make_ready(self) -> None:
        if self._state is _State.STALE:
            self.restart()
        if self._state is not _State.READY:
            raise SimulatorError(f"the simulator {self.name} is not running ({self._state.value}): call restart()")
        if self._process is not None:
            self._process.trim_log()

    # ------------------------------------------------------------------ run

    def _converse(self, execution: Execution) -> Array | None:
        answer = _RUN
        while True:
            message = self._ask(answer, self._timeout_s)
            if isinstance(message, Sample):
                self._draws += 1
                address, distribution, name, control, replace, scope, repetition, shape = message
                self._last_address = address
                value = execution.sample(
                    address,
                    distribution,
                    name=name,
                    control=control,
                    replace=replace,
                    scope=scope,
                    repetition=repetition,
                )
                answer = sample_result(value, shape)
            elif isinstance(message, Observe):
                self._last_address = message.address
                execution.observe(message.address, message.distribution, name=message.name, value=message.value)
                answer = _OBSERVE_RESULT
            elif isinstance(message, Tag):
                execution.tag(message.name or message.address, message.value)
                answer = _TAG_RESULT
            elif isinstance(message, RunResult):
                return message.result
            else:
                raise self._out_of_turn(message, "Sample, Observe, Tag or RunResult", self._where())

    def _abandon(self) -> None:
        """End a run that an exception broke off. The peer is kept only where it agrees that the run is over."""
        if self._state is not _State.READY or self._connection is None:
            return  # the simulator itself failed
        agreed = False
        try:
            answer = self._connection.request(_RESET, min(self._timeout_s, _ABANDON_S))
            agreed = isinstance(self._decoder.decode(answer), Reset)
        except (SimulatorError, ProtocolError):
            pass  # not kept: the exception under way says why the run ended
        finally:
            if not agreed:
                self._release(_State.STALE)

    def _ask(self, message: bytes, timeout_s: float) -> Message:
        assert self._connection is not None
        try:
            return self._decoder.decode(self._connection.request(message, timeout_s))
        except (PeerEnded, PeerSilent) as error:
            report = self._report(str(error))
            if isinstance(error, PeerSilent):
                report += (
                    "\n  if it is only slow, allow it more time: timeout_s (simulator.timeout_s in a configuration)"
                )
            self._release(_State.FAILED)
            raise SimulatorError(report) from error
        except ProtocolError as error:
            raise ProtocolError(f"{self._report('sent something else than PPX')}\n  {error}") from error

    def _release(self, state: _State) -> None:
        self._state = state
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            self._process.stop()
            self._process = None

    # ------------------------------------------------------------------ errors

    def _where(self) -> str:
        if not self._runs:
            return "before the handshake was over"
        last = f", last address {self._last_address}" if self._last_address else ""
        return f"in run {self._runs} after {self._draws} draws{last}"

    def _report(self, what: str) -> str:
        lines = [f"the simulator {self.name} {what} {self._where()}"]
        if self._process is None:
            lines.append(f"  endpoint: {self._endpoint}")
        else:
            lines.append(f"  command: {' '.join(self._process.command)} (endpoint {self._process.endpoint})")
            tail = self._process.stderr_tail()
            lines.append("  it wrote to standard error:\n" + tail if tail else "  it wrote nothing to standard error")
        return "\n".join(lines)

    def _out_of_turn(self, message: Message, expected: str, where: str) -> ProtocolError:
        return ProtocolError(f"the simulator {self.name} sent {type(message).__name__} {where}; expected {expected}")


def connect(endpoint: str, timeout_s: float = 60.0, start_timeout_s: float = 60.0) -> Simulator:
    """Return a simulator that runs already and listens on `endpoint`; raises as `Simulator` does."""
    return Simulator(None, endpoint, timeout_s=timeout_s, start_timeout_s=start_timeout_s)
