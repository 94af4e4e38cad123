# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Run a model: a controller chooses the value of each entry, and the execution records the trace.

Every inference engine is a controller. A program and its trace::

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
from etalumis.trace import CONTROLLED, REJECTED, REPLACED, Observed, RecordedTrace, Trace


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


class Model(Protocol):
    """A model: a Python function, or a simulator behind PPX."""

    @property
    def name(self) -> str:
        """Name of the model, for logs and provenance."""
        ...

    def run(self, execution: "Execution") -> float | None:
        """Run once, send every statement to `execution`, and return the model's result."""
        ...


class ScalarDraws(Protocol):
    """Receiver of scalar draws: an `Execution`, or the PPX server (`ppx.serve`)."""

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


def sample_elements(
    receiver: ScalarDraws,
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


class Execution:
    """One run: numbers the instances, asks the controller for values, and records the trace.

    At the start of every repetition of a rejection scope, instance numbers are reset to their values at the start of
    the scope. The address of an accepted entry therefore does not depend on the number of rejected repetitions.
    """

    def __init__(self, controller: Controller, addresses: AddressTable, bases: "BaseTable | None" = None) -> None:
        self.trace = RecordedTrace(addresses)
        self._controller = controller
        self._bases = bases if bases is not None else BaseTable(addresses)
        self._counts: dict[int, int] = {}
        self._scope = 0
        self._repetition = 0
        self._scope_start = 0  # position of the first entry of the current repetition
        self._counts_at_entry: dict[int, int] = {}

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
        trace = self.trace
        if scope != self._scope or repetition != self._repetition:
            self._move(scope, repetition)
        base = self._bases.base(stack, distribution.suffix)
        instance = self._counts.get(base, 0) + 1
        self._counts[base] = instance
        address = self._bases.address(base, instance)
        position = len(trace.address)
        value = self._controller.sample(Site(address, distribution, name, control, scope, repetition, position))
        try:
            log_prob = distribution.log_prob(value)
        except (ValueError, ArithmeticError) as error:
            raise RefusedError(
                f"sample statement at {stack}: the log density of {distribution} at {value} is not a number: {error}"
            ) from error
        trace.address.append(address)
        trace.value.append(value)
        trace.distribution.append(distribution)
        trace.log_prob.append(log_prob)
        trace.flags.append((CONTROLLED if control else 0) | (REPLACED if replace else 0))
        trace.scope.append(scope)
        trace.repetition.append(repetition)
        trace.name.append(name)
        return value

    def observe(
        self, stack: str, distribution: ArrayDistribution, *, name: str = "", value: np.ndarray | None = None
    ) -> None:
        """Record an observe statement with the value that the controller returns and its log likelihood."""
        chosen = self._controller.observe(name, distribution, value)
        try:
            log_prob = 0.0 if chosen is None else distribution.log_prob(chosen)
        except (ValueError, ArithmeticError) as error:
            raise RefusedError(
                f"observe statement {name!r} at {stack}: the log likelihood of {distribution.kind} is not a number: "
                f"{error}"
            ) from error
        self.trace.observes.append(Observed(name, stack, distribution, chosen, log_prob))

    def tag(self, name: str, value: np.ndarray) -> None:
        """Record a tag; a second tag of the same name replaces the first."""
        self.trace.tags[name] = value

    def _move(self, scope: int, repetition: int) -> None:
        """Enter or leave a rejection scope, or start its next repetition."""
        if scope == self._scope:
            if repetition != self._repetition + 1:
                raise ProtocolError(
                    f"rejection scope {scope}: repetition {repetition} follows {self._repetition}; "
                    f"expected {self._repetition + 1}. This is a bug in the simulator's front end."
                )
            flags = self.trace.flags
            for position in range(self._scope_start, len(flags)):
                flags[position] |= REJECTED
            self._counts = dict(self._counts_at_entry)
        elif scope:
            if repetition != 0:
                raise ProtocolError(f"rejection scope {scope} starts with repetition {repetition}; expected 0")
            self._counts_at_entry = dict(self._counts)
        self._scope, self._repetition = scope, repetition
        self._scope_start = len(self.trace.flags)


class BaseTable:
    """Cache of address strings, shared by runs: for a known site, no string is built."""

    def __init__(self, addresses: AddressTable) -> None:
        self._addresses = addresses
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
            known.append(self._addresses.intern(join(self._base_names[base], len(known) + 1)))
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
