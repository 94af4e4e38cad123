# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The conversation over one connection after its handshake: interactive, delegated and assisted runs."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from etalumis import __version__
from etalumis.address import AddressTable
from etalumis.counting import counted
from etalumis.delegation import Answer, HandOver, RunPlan, StepFlag, Steps
from etalumis.distributions import BY_CODE, ArrayDistribution
from etalumis.errors import ProtocolError, SimulatorError
from etalumis.execution import BaseTable, Site, StatementReceiver, sample_elements
from etalumis.ppx.delegated import DelegatedBatch, DelegatedTrace
from etalumis.ppx.encode import encode, sample_result
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
    TraceColumns,
)
from etalumis.ppx.requests import ASSISTED, DELEGATED, request, request_with_terms
from etalumis.ppx.vocabulary import Vocabulary
from etalumis.rows import as_structs
from etalumis.typing import FloatArray

_RUN = encode(Run())
_OBSERVE_RESULT = encode(ObserveResult())
_TAG_RESULT = encode(TagResult())
_HAND_OVER_REPLIES = {hand_over: encode(SampleResult(None, hand_over)) for hand_over in (HandOver.SCOPE, HandOver.REST)}

_OUTCOMES = (
    StepFlag(0),
    StepFlag.NOTHING,
    StepFlag.RUN,
    StepFlag.RUN | StepFlag.LOST,
    StepFlag.RUN | StepFlag.ACCEPTED,
    StepFlag.RUN | StepFlag.BROKEN,
)
"""The possible outcomes of a step, apart from the flag TAIL."""

Ask = Callable[[bytes], Message]
"""Sends a message to the simulator and returns its answer."""


class SessionLost(SimulatorError):
    """The simulator no longer knows the session, because another client has begun one."""


class RequestRefused(ProtocolError):
    """The simulator refuses a request; the text is its reason. A request for fewer runs may be accepted."""


class ModelFailed(ProtocolError):
    """The model raised an error in an interactive run; the text says which. The same run would fail again."""


def handshake_request(version: int) -> bytes:
    """Return a handshake that offers version `version` of delegated runs; 0 offers none."""
    return encode(Handshake(f"etalumis {__version__}", version, max(BY_CODE)))


class Conversation:
    """The inference side of a session: writes requests, and checks the answers.

    A session belongs to one handshake and holds the numbers and observations exchanged since then. After any exception
    the two sides may disagree about these, and a new handshake is needed.

    Parameters
    ----------
    handshake
        Answer of the simulator to `handshake_request`.
    name
        Name of the simulator in messages.
    runs
        Number of runs in earlier sessions with the same process.

    Attributes
    ----------
    runs, draws, last_address
        Number of runs, number of sample messages in the last run, and the address of its last statement.
    pending
        Number of runs, or of steps of a chain, in the next answer.
    unanswered
        The statement of an interactive run that has no answer yet, if any.
    """

    def __init__(self, handshake: HandshakeResult, name: str, runs: int = 0) -> None:
        self.handshake, self._name = handshake, name
        self.runs, self.draws = runs, 0
        self.last_address = ""
        self.pending = 0
        self.unanswered: Message | None = None
        self._seeds: Sequence[int] = ()  # of the last request for delegated runs
        self._vocabulary: Vocabulary | None = None
        self._bases: BaseTable | None = None
        self._sent_observations: Mapping[str, np.ndarray] | None = None
        self._invalid = False

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The numbers of its delegated traces; None before the first request."""
        return self._vocabulary

    def can_use(self, addresses: AddressTable) -> bool:
        """Return whether the session can be used with this address table; a session belongs to one table."""
        return self._vocabulary is None or (self._vocabulary.addresses is addresses and not self._invalid)

    def invalidate(self) -> None:
        """Mark the session as unusable: an exception ended a run, so the numbers of the two sides may differ."""
        self._invalid = True

    def where(self, *, statement: bool = False) -> str:
        """Return the position in the conversation, without the last address for a message about a `statement`."""
        if not self.runs:
            return "before the handshake was over"
        if self._seeds:
            others = f" and the {len(self._seeds) - 1} after it" if len(self._seeds) > 1 else ""
            return f"in run {self.runs}, delegated with seed {self._seeds[0]}{others}"
        last = f", last address {self.last_address}" if self.last_address and not statement else ""
        return f"in run {self.runs} after {counted(self.draws, 'draw')}{last}"

    def run_interactively(self, execution: StatementReceiver, ask: Ask) -> FloatArray | None:
        """Run the model once, with one message per statement; return the result."""
        self._begin(1)
        answer = _RUN
        while True:
            self.unanswered = None
            message = self.unanswered = ask(answer)
            if isinstance(message, Sample):
                self.draws += 1
                address, distribution, name, control, replace, scope, repetition, shape, _ = message
                self.last_address = address
                if isinstance(distribution, ArrayDistribution):
                    drawn = sample_elements(
                        execution, address, distribution,
                        name=name, control=control, replace=replace, scope=scope, repetition=repetition,
                    )  # fmt: skip
                    answer = encode(SampleResult(drawn))
                    continue
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
                self.last_address = message.address
                execution.observe(message.address, message.distribution, name=message.name, value=message.value)
                answer = _OBSERVE_RESULT
            elif isinstance(message, Tag):
                execution.tag(message.name or message.address, message.value)
                answer = _TAG_RESULT
            elif isinstance(message, RunResult):
                return message.result
            else:
                self.unanswered = None
                if isinstance(message, Reset) and message.reason:
                    raise ModelFailed(message.reason)
                raise self._unexpected(message, "Sample, Observe, Tag or RunResult")

    def request(self, plan: RunPlan, seeds: Sequence[int], addresses: AddressTable) -> bytes:
        """Return a request for delegated runs, which the caller must send."""
        self._begin(len(seeds))
        self._seeds = seeds
        return self._request(DELEGATED, plan, seeds, addresses)

    def request_steps(self, steps: Steps, addresses: AddressTable) -> tuple[bytes, RunPlan]:
        """Return a request for steps of a chain, which the caller must send, and the plan of their runs."""
        seeds = (steps.seed,)
        self._begin(steps.number)
        self._seeds = seeds
        plan = RunPlan(steps.rows, steps.rows.size, steps.observed, details=True)
        return self._request(DELEGATED, plan, seeds, addresses, steps), plan

    def steps(
        self, answer: Message, plan: RunPlan, expected: int
    ) -> tuple[list[tuple[int, int]], list[DelegatedTrace]]:
        """Return the steps and traces in the answer to `request_steps`; raise as `traces` does."""
        found = self._traces_in(answer)
        steps = found.frame.steps
        traces = sum(1 for _, flags in steps if flags & (StepFlag.ACCEPTED | StepFlag.BROKEN))
        broken = bool(steps) and bool(steps[-1][1] & StepFlag.BROKEN)
        complete = len(steps) == expected or (broken and len(steps) < expected)
        if not (complete and traces == len(found.traces)) and not (not steps and len(found.traces) == 1):
            raise ProtocolError(
                f"the simulator {self._name} sent {len(steps)} steps with {len(found.traces)} traces {self.where()}; "
                f"expected {expected} steps and one trace per accepted step"
            )
        for number, (_, flags) in enumerate(steps, 1):
            last = number == len(steps)
            if flags & ~int(StepFlag.TAIL) not in _OUTCOMES or (flags & StepFlag.BROKEN and not last):
                raise ProtocolError(
                    f"the simulator {self._name} sent {StepFlag(flags)!r} for step {number} of {len(steps)} "
                    f"{self.where()}; expected a run that was accepted, lost or rejected, or broken at the last step"
                )
        assert self._vocabulary is not None  # created by _request
        return steps, DelegatedBatch(found, self._vocabulary, plan).traces()

    def set_pending(self, seeds: Sequence[int]) -> None:
        """Set the seeds of the next answer, for error messages; needed if several requests have been sent."""
        self._seeds, self.pending = seeds, len(seeds)

    def traces(self, answer: Message, plan: RunPlan, seeds: Sequence[int]) -> list[DelegatedTrace]:
        """Return the traces in the answer to `request`.

        Raises
        ------
        SessionLost
            If another client has begun a session with the simulator.
        RequestRefused
            If the simulator refuses the request.
        ProtocolError
            If it is not the answer to this request.
        """
        found = self._traces_in(answer)
        if [trace.seed for trace in found.traces] != list(seeds):
            raise ProtocolError(f"the simulator {self._name} sent the traces of other runs {self.where()}")
        assert self._vocabulary is not None  # created by _request
        return DelegatedBatch(found, self._vocabulary, plan).traces()

    def assist(
        self, plan: RunPlan, seed: int, answer: Callable[[Site], Answer], addresses: AddressTable, ask: Ask
    ) -> DelegatedTrace:
        """Run once, with answers to controlled draws; raise as `traces` does, and pass on errors of `answer`."""
        self._begin(1)
        message = self._request(ASSISTED, plan, (seed,), addresses)
        bases = self._bases
        assert bases is not None  # created by _request
        while True:
            asked = ask(message)
            if not isinstance(asked, Sample):
                return self.traces(asked, plan, (seed,))[0]
            self.draws += 1
            stack, distribution, name, control, _, scope, repetition, shape, instance = asked
            self.last_address = stack
            if isinstance(distribution, ArrayDistribution):
                raise ProtocolError(
                    f"the simulator {self._name} draws a vector {self.where()}; expected one message per element in an "
                    "assisted run"
                )
            address = bases.address(bases.base(stack, distribution.suffix), max(instance, 1))
            value, hand_over = answer(Site(address, distribution, name, control, scope, repetition, -1))
            if hand_over is HandOver.NOTHING and value is not None:
                message = sample_result(value, shape)
            elif value is None:
                message = _HAND_OVER_REPLIES[hand_over]
            else:
                message = encode(SampleResult(np.full(shape, value), hand_over))

    def _traces_in(self, answer: Message) -> TraceColumns:
        found = answer.traces if isinstance(answer, RunResult) else None
        if found is None:
            if isinstance(answer, Reset) and answer.reason:
                raise RequestRefused(answer.reason)
            if isinstance(answer, Reset):
                raise SessionLost("has forgotten this session")
            raise self._unexpected(answer, "RunResult with traces")
        if found.frame.session != self.handshake.session:
            raise ProtocolError(f"the simulator {self._name} sent the traces of other runs {self.where()}")
        return found

    def _begin(self, runs: int) -> None:
        self.runs += runs
        self.pending, self.unanswered = runs, None
        self.draws, self.last_address, self._seeds = 0, "", ()

    def _request(
        self, mode: int, plan: RunPlan, seeds: Sequence[int], addresses: AddressTable, steps: Steps | None = None
    ) -> bytes:
        if self._vocabulary is None:
            self._vocabulary, self._bases = Vocabulary(addresses), BaseTable(addresses)
        assert self._vocabulary.addresses is addresses  # the caller has checked `can_use`
        new_terms = None
        rows = as_structs(plan.rows)
        if rows is not None and rows.keys is not self._vocabulary:
            if plan.proposed:
                rows = None  # of an earlier session, where the priors had other numbers
            else:
                rows, new_terms = self._vocabulary.translated(rows)
            plan = plan._replace(rows=rows)
        observations = plan.observed if plan.observed is not self._sent_observations else None
        number = self.handshake.session
        if new_terms is None and observations is None and steps is None:
            return request(mode, number, plan, seeds)
        self._sent_observations = plan.observed if plan.observed is not None else self._sent_observations
        return request_with_terms(mode, number, plan, seeds, new_terms, observations, steps)

    def _unexpected(self, message: Message, expected: str) -> ProtocolError:
        return unexpected_message(self._name, message, expected, self.where())


def unexpected_message(name: str, message: Message, expected: str, where: str) -> ProtocolError:
    """Return the error for a valid message that does not answer the request."""
    return ProtocolError(f"the simulator {name} sent {type(message).__name__} {where}; expected {expected}")
