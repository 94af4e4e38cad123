# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The Python front end of PPX: serves a Python model as a simulator to any inference side.

A program in three lines; the addresses are those of the same model without PPX::

    from etalumis.models import FunctionModel
    from etalumis.ppx.serve import serve
    serve(FunctionModel(decay), "ipc:///run/user/decay")
"""

import time
from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import NoReturn

import numpy as np

from etalumis import __version__
from etalumis.distributions import BY_CODE, IN_PPX_1_0, ArrayDistribution, Distribution
from etalumis.errors import ProtocolError, RefusedError, SimulatorError
from etalumis.execution import Model
from etalumis.ppx.decode import Decoder
from etalumis.ppx.encode import encode
from etalumis.ppx.listen import Listener, Request
from etalumis.ppx.messages import (
    Handshake,
    HandshakeResult,
    Message,
    Observe,
    ObserveResult,
    Reset,
    Run,
    RunResult,
    Sample,
    SampleResult,
    Tag,
    TagResult,
)
from etalumis.typing import FloatArray

_RESET = encode(Reset())
_POLL_INTERVAL_S = 0.1
"""Maximum delay of a signal that arrives just before a wait begins."""
_MAX_REASON_CHARS = 2_000
"""Maximum length of the text of an error that is sent."""
_encode_sample = lru_cache(maxsize=8_192)(encode)
"""Most statements send the same bytes in every run, and encoding takes most of the time of a draw."""


class ModelError(SimulatorError):
    """The model raised an error. The inference side receives it as the reason of a Reset; the process ends."""


def serve(
    model: Model,
    endpoint: str,
    *,
    idle_timeout_s: float | None = None,
    on_bound: Callable[[str], None] | None = None,
    on_error: Callable[[ModelError], None] | None = None,
) -> None:
    """Serve a model until no message arrives for `idle_timeout_s`, or until an exception, such as that of a signal.

    An unexpected or malformed message abandons the run and is answered with Reset. A Handshake during a run, from any
    client, abandons the run and begins a new session: the previous client has gone or given up, and gets Reset if it
    sends another message. All other messages of other clients are answered with Reset and do not affect the run.

    Parameters
    ----------
    model
        The model, e.g. a `FunctionModel`.
    endpoint
        Endpoint to bind: ``ipc://PATH`` or ``tcp://ADDRESS:PORT``. There is no authentication: every process that can
        connect can run the model.
    idle_timeout_s
        In seconds; None: no timeout.
    on_bound
        Called with the bound endpoint, which has the actual port for ``tcp://127.0.0.1:*``.
    on_error
        Called with the error of the model before the inference side receives it.

    Raises
    ------
    SimulatorError
        If the endpoint cannot be bound.
    ModelError
        If the model raises an error; the message has the model, the error and the last address.
    """
    with Listener(endpoint) as listener:
        if on_bound is not None:
            on_bound(listener.endpoint)
        _Server(model, listener, idle_timeout_s, on_error).serve()


class _Abandon(BaseException):
    """Ends the run of a model without an error. Not an `Exception`, because models may catch those."""


class _ServerState(Enum):
    """How the current run ends. In all states but RUNNING, the model sends no further messages."""

    RUNNING = "running"
    ANSWER_HANDSHAKE = "answer handshake"
    ANSWER_RESET = "answer reset"
    LEAVE = "leave"


class _Server:
    """The simulator side of the conversation, which receives the statements of the model."""

    def __init__(
        self,
        model: Model,
        listener: Listener,
        idle_timeout_s: float | None,
        on_error: Callable[[ModelError], None] | None,
    ) -> None:
        self._model = model
        self._listener = listener
        self._idle_timeout_s = idle_timeout_s
        self._on_error = on_error
        self._decoder = Decoder()
        self._handshake = encode(HandshakeResult(f"etalumis {__version__}", model.name))
        self._state = _ServerState.RUNNING
        self._client: tuple[bytes, ...] = ()
        self._last_address = ""
        self._known_distributions = IN_PPX_1_0
        self._new_session = Handshake("")  # the one that ended the run

    def serve(self) -> None:
        while (request := self._next()) is not None:
            message = self._decode(request.data)
            self._client = request.sender
            if isinstance(message, Handshake):
                self._answer(message)
            elif isinstance(message, Run):
                self._execute()
            else:
                self._send(_RESET)

    # ------------------------------------------------------------------ statements of the model

    def sample(
        self,
        stack: str,
        distribution: Distribution,
        *,
        name: str = "",
        control: bool = True,
        replace: bool = False,
        scope: int = 0,
        repetition: int = 0,
    ) -> float:
        """Ask the inference side for a value."""
        self._last_address = stack
        self._check_known(distribution.code)
        statement = Sample(stack, distribution, name, control, replace, scope, repetition)
        answer = self._exchange(_encode_sample(statement), SampleResult)
        assert isinstance(answer, SampleResult)
        if answer.result is None or answer.result.size != 1:
            self._abandon(_ServerState.ANSWER_RESET)
        return float(answer.result.reshape(()))

    def observe(
        self, stack: str, distribution: ArrayDistribution, *, name: str = "", value: FloatArray | None = None
    ) -> None:
        """Send an observe statement; without a value, the inference side supplies it."""
        self._last_address = stack
        self._check_known(distribution.code)
        self._exchange(encode(Observe(stack, distribution, name, value)), ObserveResult)

    def tag(self, name: str, value: FloatArray) -> None:
        """Send a tag."""
        self._exchange(encode(Tag("", name, value)), TagResult)

    # ------------------------------------------------------------------ runs

    def _execute(self) -> None:
        self._state, self._last_address = _ServerState.RUNNING, ""
        result = self._forward()
        if self._state is _ServerState.RUNNING:
            self._send(encode(RunResult(None if result is None else np.asarray(result, dtype=np.float64))))
        elif self._state is _ServerState.ANSWER_HANDSHAKE:
            self._answer(self._new_session)
        elif self._state is _ServerState.ANSWER_RESET:
            self._send(_RESET)

    def _forward(self) -> float | None:
        try:
            return self._model.run(self)
        except _Abandon:
            return None
        except Exception as error:  # a model may raise any exception
            if self._state is not _ServerState.RUNNING:
                return None  # the model converted _Abandon into an error
            place = f"its last statement was at {self._last_address}" if self._last_address else "before any statement"
            self._fail(f"the model {self._model.name} raised {type(error).__name__}: {error}; {place}", error)

    def _fail(self, text: str, error: Exception) -> NoReturn:
        """Report an error of the model to the user and to the client, which would repeat the run otherwise."""
        failed = ModelError(text)
        failed.__cause__ = error
        if self._on_error is not None:
            self._on_error(failed)
        reason = text if len(text) <= _MAX_REASON_CHARS else f"{text[:_MAX_REASON_CHARS]} ..."
        sendable = reason.encode(errors="backslashreplace").decode()  # a file name may have bytes that are not UTF-8
        self._listener.send_last(self._client, encode(Reset(sendable)))
        raise failed

    def _exchange(self, statement: bytes, expected: type[Message]) -> Message:
        if self._state is not _ServerState.RUNNING:
            raise _Abandon  # the model caught _Abandon and continues: raise it again, and send nothing
        self._send(statement)
        while (request := self._next()) is not None:
            message = self._decode(request.data)
            if isinstance(message, Handshake):
                self._client, self._new_session = request.sender, message
                self._abandon(_ServerState.ANSWER_HANDSHAKE)
            if request.sender != self._client:
                self._listener.send(request.sender, _RESET)
            elif isinstance(message, expected):
                return message
            else:
                self._abandon(_ServerState.ANSWER_RESET)
        self._abandon(_ServerState.LEAVE)

    def _abandon(self, state: _ServerState) -> NoReturn:
        self._state = state
        raise _Abandon

    # ------------------------------------------------------------------ messages

    def _answer(self, handshake: Handshake) -> None:
        self._known_distributions = max(handshake.distributions, IN_PPX_1_0)
        self._send(self._handshake)

    def _check_known(self, code: int) -> None:
        if code > self._known_distributions:
            raise ProtocolError(
                f"the inference side does not know the distribution {BY_CODE[code].__name__}, which is not part of "
                "PPX 1.0; use a newer version of etalumis there"
            )

    def _send(self, message: bytes) -> None:
        self._listener.send(self._client, message)

    def _next(self) -> Request | None:
        """Return the next message; None if none arrives in time."""
        began = time.monotonic()
        while (request := self._listener.receive(_POLL_INTERVAL_S)) is None:
            if self._idle_timeout_s is not None and time.monotonic() - began >= self._idle_timeout_s:
                return None
        return request

    def _decode(self, data: bytes) -> Message | None:
        """Return the message; None if the bytes are not a valid one."""
        try:
            return self._decoder.decode(data)
        except (ProtocolError, RefusedError):
            return None  # the caller answers with Reset
