# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Run a model: something chooses the value of each entry, and the execution records the trace.

Engines state their choices in advance, as plans (`etalumis.delegation`, `etalumis.draw_by_draw`). A `Controller`
chooses draw by draw. A program and its trace::

    def model():                                      # entries of the trace
        channel = sample(Categorical((0.3, 0.7)))     # [model+1:14-45]__Categorical(len_probs:2)__1
        px = sample(Uniform(-3, 3), name="px")        # [model+2:9-42]__Uniform__1
        observe(Normal(px, 0.5), "x")                 # an observe entry "x"
        tag("channel", channel)                       # a tag "channel"
"""

from typing import NamedTuple, Protocol

import numpy as np

from etalumis.address import AddressTable, join
from etalumis.distributions import ArrayDistribution, Distribution
from etalumis.errors import ProtocolError, RefusedError
from etalumis.recorded_trace import RecordedTrace
from etalumis.trace import CONTROLLED, REJECTED, REPLACED, Observed, Trace


class Site(NamedTuple):
    """A sample statement, as a controller sees it.

    `address` is an integer of the run's address table, and `position` is the index of the entry in the trace. `scope`
    and `repetition` are as in `Trace`.
    """

    address: int
    distribution: Distribution
    name: str
    control: bool
    scope: int
    repetition: int
    position: int


class Controller(Protocol):
    """Chooses the value of every entry of a run."""

    def sample(self, site: Site) -> float:
        """Return the value of an entry."""
        ...

    def observe(self, name: str, distribution: ArrayDistribution, given: np.ndarray | None) -> np.ndarray | None:
        """Return the observed value, or None to leave the statement unscored.

        `given` is the value that the model itself supplied, or None.
        """
        ...


class PriorController:
    """Draws every entry from its prior, and scores only the values that the model itself supplies.

    Parameters
    ----------
    rng
        Random generator of the draws.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def sample(self, site: Site) -> float:
        """Return a draw from the prior."""
        return site.distribution.sample(self.rng)

    def observe(self, name: str, distribution: ArrayDistribution, given: np.ndarray | None) -> np.ndarray | None:
        """Return the model's own value, or None."""
        return given


class StatementReceiver(Protocol):
    """Receiver of a model's statements: an `Execution`, a `draw_by_draw` run, or the PPX server (`ppx.serve`)."""

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
        """Return the value of a draw."""
        ...

    def observe(
        self,
        stack: str,
        distribution: ArrayDistribution,
        *,
        name: str = "",
        value: np.ndarray | None = None,
    ) -> None:
        """Receive a likelihood, and the observed value if the model supplies it."""
        ...

    def tag(self, name: str, value: np.ndarray) -> None:
        """Record a value."""
        ...


class Model(Protocol):
    """A model: a Python function, or a simulator behind PPX."""

    @property
    def name(self) -> str:
        """Name of the model, for logs and provenance."""
        ...

    def run(self, execution: StatementReceiver) -> float | None:
        """Run once, send every statement to `execution`, and return the model's result."""
        ...


def sample_elements(
    receiver: StatementReceiver,
    stack: str,
    distribution: ArrayDistribution,
    *,
    name: str = "",
    control: bool = True,
    replace: bool = False,
    scope: int = 0,
    repetition: int = 0,
) -> np.ndarray:
    """Draw an array as one entry per element, row-major, and return the array.

    The index of an element is part of the stack and of the name of its entry: "[f+1:5-9][2]", "theta[2]".
    """
    values = [
        receiver.sample(
            stack + index,
            element,
            name=name + index if name else "",
            control=control,
            replace=replace,
            scope=scope,
            repetition=repetition,
        )
        for index, element in distribution.elements()
    ]
    return np.array(values, dtype=np.float64).reshape(distribution.shape)


class Recorder:
    """Records the trace of one run; subclasses choose the values.

    At the start of every repetition of a rejection scope, instance numbers are reset to their values at the start of
    the scope. The address of an accepted entry therefore does not depend on the number of rejected repetitions.

    Parameters
    ----------
    trace
        The trace, still empty.
    bases
        Cache of address strings, for the table of the trace.
    rejected
        Whether the trace keeps the entries of rejected repetitions.
    """

    def __init__(self, trace: RecordedTrace, bases: "BaseTable", *, rejected: bool = True) -> None:
        self.trace = trace
        self._bases, self._keep_rejected = bases, rejected
        self._counts: dict[int, int] = {}
        self._scope = 0
        self._repetition = 0
        self._scope_start = 0  # position of the first entry of the current repetition
        self._counts_at_entry: dict[int, int] = {}

    def tag(self, name: str, value: np.ndarray) -> None:
        """Record a tag; a second tag of the same name replaces the first."""
        self.trace.tags[name] = value

    def _address(self, stack: str, suffix: str) -> int:
        """Return the address of the next execution of a statement."""
        base = self._bases.base(stack, suffix)
        instance = self._counts.get(base, 0) + 1
        self._counts[base] = instance
        return self._bases.address(base, instance)

    def _add(
        self, stack: str, address: int, value: float, distribution: Distribution,
        name: str, control: bool, replace: bool, scope: int, repetition: int,
    ) -> float:  # fmt: skip
        """Record an entry; return its log density."""
        try:
            log_prob = distribution.log_prob(value)
        except (ValueError, ArithmeticError) as error:
            raise RefusedError(
                f"sample statement at {stack}: the log density of {distribution} at {value} is not a number: {error}"
            ) from error
        trace = self.trace
        trace.address.append(address)
        trace.value.append(value)
        trace.distribution.append(distribution)
        trace.log_prob.append(log_prob)
        trace.flags.append((CONTROLLED if control else 0) | (REPLACED if replace else 0))
        trace.scope.append(scope)
        trace.repetition.append(repetition)
        trace.name.append(name)
        return log_prob

    def _observe(self, stack: str, distribution: ArrayDistribution, name: str, value: np.ndarray | None) -> None:
        """Record an observe statement with the log likelihood of a value; None leaves it unscored."""
        try:
            log_prob = 0.0 if value is None else distribution.log_prob(value)
        except (ValueError, ArithmeticError) as error:
            raise RefusedError(
                f"observe statement {name!r} at {stack}: the log likelihood of {distribution.kind} is not a number: "
                f"{error}"
            ) from error
        self.trace.observes.append(Observed(name, stack, distribution, value, log_prob))

    def _move(self, scope: int, repetition: int) -> None:
        """Enter or leave a rejection scope, or start its next repetition."""
        if scope == self._scope:
            if repetition != self._repetition + 1:
                raise ProtocolError(
                    f"rejection scope {scope}: repetition {repetition} follows {self._repetition}; "
                    f"expected {self._repetition + 1}. This is a bug in the simulator's front end."
                )
            self._reject()
            self._counts = dict(self._counts_at_entry)
        elif scope:
            if repetition != 0:
                raise ProtocolError(f"rejection scope {scope} starts with repetition {repetition}; expected 0")
            self._counts_at_entry = dict(self._counts)
        self._scope, self._repetition = scope, repetition
        self._scope_start = len(self.trace.flags)

    def _reject(self) -> None:
        trace, start = self.trace, self._scope_start
        if self._keep_rejected:
            for position in range(start, len(trace.flags)):
                trace.flags[position] |= REJECTED
            return
        trace.dropped += len(trace.flags) - start
        trace.truncate(start)


class Execution(Recorder):
    """A run in which a controller chooses the values."""

    def __init__(self, controller: Controller, addresses: AddressTable, bases: "BaseTable | None" = None) -> None:
        super().__init__(RecordedTrace(addresses), bases if bases is not None else BaseTable(addresses))
        self._controller = controller

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
        """Record a sample statement with the value that the controller chooses, and return the value."""
        if scope != self._scope or repetition != self._repetition:
            self._move(scope, repetition)
        address = self._address(stack, distribution.suffix)
        position = len(self.trace.address)
        value = self._controller.sample(Site(address, distribution, name, control, scope, repetition, position))
        self._add(stack, address, value, distribution, name, control, replace, scope, repetition)
        return value

    def observe(
        self, stack: str, distribution: ArrayDistribution, *, name: str = "", value: np.ndarray | None = None
    ) -> None:
        """Record an observe statement with the value that the controller returns and its log likelihood."""
        self._observe(stack, distribution, name, self._controller.observe(name, distribution, value))


class BaseTable:
    """Cache of address strings, shared by runs: for a known site, no string is built."""

    def __init__(self, addresses: AddressTable) -> None:
        self.addresses = addresses
        self._base_ids: dict[tuple[str, str], int] = {}
        self._base_names: list[str] = []
        self._address_ids: list[list[int]] = []

    def base(self, stack: str, suffix: str) -> int:
        """Return the integer of the base address `stack__suffix`."""
        key = (stack, suffix)
        found = self._base_ids.get(key)
        if found is None:
            found = self._base_ids[key] = len(self._base_names)
            self._base_names.append(f"{stack}__{suffix}")
            self._address_ids.append([])
        return found

    def address(self, base: int, instance: int) -> int:
        """Return the integer of the `instance`-th (from 1) address of a base."""
        known = self._address_ids[base]
        while len(known) < instance:
            known.append(self.addresses.intern(join(self._base_names[base], len(known) + 1)))
        return known[instance - 1]


def run(
    model: Model, controller: Controller, addresses: AddressTable | None = None, bases: BaseTable | None = None
) -> Trace:
    """Run `model` once under `controller` and return its trace.

    Runs whose traces are compared must share `addresses`. Sharing `bases`, too, makes them faster.
    """
    table = addresses if addresses is not None else AddressTable()
    execution = Execution(controller, table, bases)
    result = model.run(execution)
    execution.trace.result = result
    return execution.trace
