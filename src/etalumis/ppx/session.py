# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What is said over one connection after its handshake: interactive, delegated and assisted runs."""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from etalumis import __version__
from etalumis.address import AddressTable
from etalumis.delegation import Answer, HandOver, RunPlan, StepFlag, Steps
from etalumis.errors import ProtocolError, RefusedError, SimulatorError
from etalumis.execution import BaseTable, Execution, Site
from etalumis.ppx.decode import Decoder
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
from etalumis.typing import FloatArray

_RUN = encode(Run())
_OBSERVE_RESULT = encode(ObserveResult())
_TAG_RESULT = encode(TagResult())
_DRAW_IT = {hand_over: encode(SampleResult(None, hand_over)) for hand_over in (HandOver.SCOPE, HandOver.REST)}

_OUTCOMES = (
    StepFlag(0),
    StepFlag.NOTHING,
    StepFlag.RUN,
    StepFlag.RUN | StepFlag.LOST,
    StepFlag.RUN | StepFlag.ACCEPTED,
    StepFlag.RUN | StepFlag.BROKEN,
)
"""What can become of a step, whatever its move."""

Ask = Callable[[bytes], Message]
"""Sends a message to the simulator and returns its answer."""


class Forgotten(SimulatorError):
    """The simulator does not know the session any more: it takes another client's runs."""


class RequestRefused(ProtocolError):
    """The simulator does not do what it was asked for; the text is its reason. Fewer runs at a time may be granted."""


def greeting(version: int) -> bytes:
    """Return the handshake that offers delegated runs of `version`; 0 offers none."""
    return encode(Handshake(f"etalumis {__version__}", version))


class Conversation:
    """One side of a conversation: which requests mean what, and what answers to them are worth.

    It belongs to one handshake; what both sides have numbered and handed over since then is kept here. After any
    exception out of it the two sides may know different things: go on with another handshake.

    Parameters
    ----------
    handshake
        The simulator's answer to `greeting`.
    name
        What it is called in messages.
    runs
        Runs asked for in earlier sessions with the same process.

    Attributes
    ----------
    runs, draws, last_address
        Runs asked for; statements of the last one that were sampled by message, and where the last statement was.
    pending
        Runs, or steps of a chain, whose answer comes next.
    unanswered
        The statement of an interactive run that has no answer yet, if any.
    """

    def __init__(self, handshake: HandshakeResult, name: str, runs: int = 0) -> None:
        self.handshake, self._name = handshake, name
        self.runs, self.draws = runs, 0
        self.last_address = ""
        self.pending = 0
        self.unanswered: Message | None = None
        self._seeds: Sequence[int] = ()  # of the delegated runs asked for last
        self._vocabulary: Vocabulary | None = None
        self._bases: BaseTable | None = None
        self._handed_over: Mapping[str, np.ndarray] | None = None
        self._broken_off = False

    @property
    def vocabulary(self) -> Vocabulary | None:
        """What the numbers of its delegated traces stand for; None before the first request."""
        return self._vocabulary

    def speaks(self, addresses: AddressTable) -> bool:
        """Return whether it is good for runs with addresses of this table: one session, one table."""
        return self._vocabulary is None or (self._vocabulary.addresses is addresses and not self._broken_off)

    def break_off(self) -> None:
        """Take note that an exception ended a run: what both sides have numbered may differ from here on."""
        self._broken_off = True

    def where(self, *, statement: bool = False) -> str:
        """Return how far the conversation has come; without the last address in a message about a `statement`."""
        if not self.runs:
            return "before the handshake was over"
        if self._seeds:
            others = f" and the {len(self._seeds) - 1} after it" if len(self._seeds) > 1 else ""
            return f"in run {self.runs}, delegated with seed {self._seeds[0]}{others}"
        last = f", last address {self.last_address}" if self.last_address and not statement else ""
        return f"in run {self.runs} after {self.draws} draws{last}"

    def converse(self, execution: Execution, ask: Ask) -> FloatArray | None:
        """Run once, every statement a message; return the result."""
        self._begin(1)
        answer = _RUN
        while True:
            self.unanswered = None
            message = self.unanswered = ask(answer)
            if isinstance(message, Sample):
                self.draws += 1
                address, distribution, name, control, replace, scope, repetition, shape, _ = message
                self.last_address = address
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
                raise self._out_of_turn(message, "Sample, Observe, Tag or RunResult")

    def request(self, plan: RunPlan, seeds: Sequence[int], addresses: AddressTable) -> bytes:
        """Return the message that asks for delegated runs; it has to be sent."""
        self._begin(len(seeds))
        self._seeds = seeds
        return self._request(DELEGATED, plan, seeds, addresses)

    def request_steps(self, steps: Steps, addresses: AddressTable) -> tuple[bytes, RunPlan]:
        """Return the message that asks for steps of a chain, which has to be sent, and the plan of their runs."""
        seeds = (steps.seed,)
        self._begin(steps.number)
        self._seeds = seeds
        plan = RunPlan(steps.rows, steps.rows.size, steps.observed, details=True)
        return self._request(DELEGATED, plan, seeds, addresses, steps), plan

    def steps(self, answer: Message, plan: RunPlan, wanted: int) -> tuple[list[tuple[int, int]], list[DelegatedTrace]]:
        """Return steps and traces that came in answer to `request_steps`; raises as `traces`."""
        found = self._traces_in(answer)
        steps = found.frame.steps
        led = sum(1 for _, flags in steps if flags & (StepFlag.ACCEPTED | StepFlag.BROKEN))
        broken = bool(steps) and bool(steps[-1][1] & StepFlag.BROKEN)
        complete = len(steps) == wanted or (broken and len(steps) < wanted)
        if not (complete and led == len(found.traces)) and not (not steps and len(found.traces) == 1):
            raise ProtocolError(
                f"the simulator {self._name} sent {len(steps)} steps with {len(found.traces)} traces {self.where()}; "
                f"expected {wanted} steps and a trace for each that was accepted"
            )
        for number, (_, flags) in enumerate(steps, 1):
            last = number == len(steps)
            if flags & ~int(StepFlag.TAIL) not in _OUTCOMES or (flags & StepFlag.BROKEN and not last):
                raise ProtocolError(
                    f"the simulator {self._name} sent {StepFlag(flags)!r} for step {number} of {len(steps)} "
                    f"{self.where()}; expected a run that was accepted, lost, or broken off at the end, or none of them"
                )
        assert self._vocabulary is not None  # _request made it
        return steps, DelegatedBatch(found, self._vocabulary, plan).traces()

    def awaits(self, seeds: Sequence[int]) -> None:
        """Say whose traces are the next to come, of several requests under way: what fails now is among them."""
        self._seeds, self.pending = seeds, len(seeds)

    def traces(self, answer: Message, plan: RunPlan, seeds: Sequence[int]) -> list[DelegatedTrace]:
        """Return the traces that came in answer to `request`.

        Raises
        ------
        Forgotten
            Where another client has shaken hands with the simulator meanwhile.
        RequestRefused
            If the simulator refuses the request.
        ProtocolError
            Where it is the answer to something else.
        """
        found = self._traces_in(answer)
        if [trace.seed for trace in found.traces] != list(seeds):
            raise ProtocolError(f"the simulator {self._name} sent the traces of other runs {self.where()}")
        assert self._vocabulary is not None  # _request made it
        return DelegatedBatch(found, self._vocabulary, plan).traces()

    def assist(
        self, plan: RunPlan, seed: int, answer: Callable[[Site], Answer], addresses: AddressTable, ask: Ask
    ) -> DelegatedTrace:
        """Run once, asked for controlled draws alone; raises as `traces`, and whatever `answer` does."""
        self._begin(1)
        message = self._request(ASSISTED, plan, (seed,), addresses)
        bases = self._bases
        assert bases is not None  # _request made it
        while True:
            asked = ask(message)
            if not isinstance(asked, Sample):
                return self.traces(asked, plan, (seed,))[0]
            self.draws += 1
            stack, distribution, name, control, _, scope, repetition, shape, instance = asked
            self.last_address = stack
            address = bases.address(bases.base(stack, distribution.suffix), max(instance, 1))
            value, hand_over = answer(Site(address, distribution, name, control, scope, repetition, -1))
            if hand_over is HandOver.NOTHING and value is not None:
                message = sample_result(value, shape)
            elif value is None:
                message = _DRAW_IT[hand_over]
            else:
                message = encode(SampleResult(np.full(shape, value), hand_over))

    def _traces_in(self, answer: Message) -> TraceColumns:
        found = answer.traces if isinstance(answer, RunResult) else None
        if found is None:
            if isinstance(answer, Reset) and answer.reason:
                raise RequestRefused(answer.reason)
            if isinstance(answer, Reset):
                raise Forgotten("has forgotten this session")
            raise self._out_of_turn(answer, "RunResult with traces")
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
        assert self._vocabulary.addresses is addresses  # the caller asked `speaks`
        new_terms = None
        if plan.rows is not None and plan.rows.keys is not self._vocabulary:
            rows, new_terms = self._vocabulary.translated(plan.rows)
            plan = plan._replace(rows=rows)
        observations = plan.observed if plan.observed is not self._handed_over else None
        number = self.handshake.session
        if new_terms is None and observations is None and steps is None:
            return request(mode, number, plan, seeds)
        self._handed_over = plan.observed if plan.observed is not None else self._handed_over
        return request_with_terms(mode, number, plan, seeds, new_terms, observations, steps)

    def _out_of_turn(self, message: Message, expected: str) -> ProtocolError:
        return out_of_turn(self._name, message, expected, self.where())


def finish_run(statement: Message | None, ask: Ask, decoder: Decoder, deadline: float) -> Message:
    """Answer the statements of a run from their priors until it ends; return the message that came instead of another.

    This is how a run is ended with a peer of PPX 1.0, which knows no other way: the public C++ peer ends its process if
    it gets something else than a SampleResult for a Sample, and takes any message for the answer to other statements.

    Parameters
    ----------
    statement
        The statement that waits for an answer. If it is None, a value is sent: a peer that waits for the answer to a
        statement accepts it, whichever statement it is, and a peer outside a run answers with Reset.
    ask
        Sends an answer and returns the next message.
    decoder
        Knows the shape of the value that a refused statement waits for.
    deadline
        When to give up, as of `time.monotonic`.

    Raises
    ------
    SimulatorError
        If the run has not ended by then.
    """
    rng = np.random.Generator(np.random.PCG64(0))  # the values matter to nobody, but a rejection loop needs several
    message = statement
    while True:
        if time.monotonic() > deadline:
            raise SimulatorError("is still in a run that was not completed")
        try:
            if message is None:
                message = ask(encode(SampleResult(np.full(decoder.refused_shape, 0.5))))
            elif isinstance(message, Sample):
                message = ask(sample_result(message.distribution.sample(rng), message.shape))
            elif isinstance(message, Observe):
                message = ask(_OBSERVE_RESULT)
            elif isinstance(message, Tag):
                message = ask(_TAG_RESULT)
            else:
                return message
        except RefusedError:  # a statement without a prior to draw from
            message = None


def out_of_turn(name: str, message: Message, expected: str, where: str) -> ProtocolError:
    """Return the error for a message that is PPX but not the answer to what was asked."""
    return ProtocolError(f"the simulator {name} sent {type(message).__name__} {where}; expected {expected}")
