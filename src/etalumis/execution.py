# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Running a model: a controller decides each entry's value, a recorder keeps what happened.

Every inference engine is one controller. A program and the trace it gives::

    def model():                                      # entries of the trace
        channel = sample(Categorical((0.3, 0.7)))     # [model+1:14-45]__Categorical(len_probs:2)__1
        px = sample(Uniform(-3, 3), name="px")        # [model+2:9-42]__Uniform__1
        observe(Normal(px, 0.5), name="x")            # an observe entry "x"
        tag("channel", channel)                       # a tag "channel"
"""

from typing import NamedTuple, Protocol

import numpy as np

from etalumis.address import AddressTable, join
from etalumis.distributions import ArrayDistribution, Distribution
from etalumis.errors import ProtocolError, RefusedError
from etalumis.trace import CONTROLLED, REJECTED, REPLACED, Observed, RecordedTrace, Trace


class Site(NamedTuple):
    """A sample statement as it is reached: what a controller sees.

    `address` is an integer of the run's address table, `position` the running number of the entry in the record,
    `scope` and `repetition` as in `Trace`.
    """

    address: int
    distribution: Distribution
    name: str
    control: bool
    scope: int
    repetition: int
    position: int


class Controller(Protocol):
    """Decides the value of every entry of a run."""

    def sample(self, site: Site) -> float:
        """Return the value of the entry reached."""
        ...

    def observe(self, name: str, distribution: ArrayDistribution, given: np.ndarray | None) -> np.ndarray | None:
        """Return the value to condition on; None leaves the statement unscored.

        `given` is the value that the model itself supplied, if it did.
        """
        ...


class Model(Protocol):
    """Anything that can be run: a Python function or a simulator behind PPX."""

    @property
    def name(self) -> str:
        """Name for logs and provenance."""
        ...

    def run(self, execution: "Execution") -> float | None:
        """Run once, sending every statement through `execution`; return the model's result."""
        ...


class Execution:
    """One run: numbers the instances, asks the controller, records.

    Instance numbers are reset, at the start of every repetition of a rejection scope, to what they were when the
    scope was entered: an accepted entry has the same address however many repetitions were rejected before it.
    """

    def __init__(self, controller: Controller, addresses: AddressTable, bases: "BaseTable | None" = None) -> None:
        self.trace = RecordedTrace(addresses)
        self._controller = controller
        self._bases = bases if bases is not None else BaseTable(addresses)
        self._counts: dict[int, int] = {}
        self._scope = 0
        self._repetition = 0
        self._scope_start = 0  # position of the first entry of the repetition in progress
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
        """Record one sample statement with the value that the controller decides, and return the value."""
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
                f"the sample statement at {stack}: the density of {distribution} at {value} is no double: {error}"
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
        """Condition on the value that the controller names; record it with its log likelihood."""
        chosen = self._controller.observe(name, distribution, value)
        try:
            log_prob = 0.0 if chosen is None else distribution.log_prob(chosen)
        except (ValueError, ArithmeticError) as error:
            raise RefusedError(
                f"observe statement {name!r} at {stack}: the likelihood of {distribution.kind} is no double: {error}"
            ) from error
        self.trace.observes.append(Observed(name, stack, distribution, chosen, log_prob))

    def tag(self, name: str, value: np.ndarray) -> None:
        """Record a value the model wants remembered; a second tag of the same name replaces the first."""
        self.trace.tags[name] = value

    def _move(self, scope: int, repetition: int) -> None:
        """Follow the model into, through or out of a rejection scope."""
        if scope == self._scope:
            if repetition != self._repetition + 1:
                raise ProtocolError(
                    f"rejection scope {scope}: repetition {repetition} follows {self._repetition}; "
                    f"expected {self._repetition + 1}. The simulator's front end is at fault."
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
    """Caches of the strings behind addresses, kept from run to run: a known site costs two look-ups and no string."""

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

    Give the same `addresses` (and, for speed, the same `bases`) to all runs whose traces are to be compared.
    """
    table = addresses if addresses is not None else AddressTable()
    execution = Execution(controller, table, bases)
    result = model.run(execution)
    execution.trace.result = result
    return execution.trace
