# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Controllers that several engines use: draws from the prior, and replay of recorded entries."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from etalumis.address import AddressTable, join, split
from etalumis.delegation import AddressKey, Answer, PlannedTrace, ReplayRows, RunPlan, SavedKeys
from etalumis.distributions import ArrayDistribution, Distribution
from etalumis.errors import InferenceError
from etalumis.execution import Site
from etalumis.inference.observations import Observations
from etalumis.trace import CONTROLLED, REPLACED, Trace
from etalumis.typing import Array


class Planner:
    """A controller that can state its decisions in advance, for models that carry out plans.

    Attributes
    ----------
    assisted
        Whether the model still has to ask for the values of controlled entries.
    """

    assisted = False

    def plan(self) -> RunPlan:
        """Return the plan of the run."""
        raise NotImplementedError

    def receive(self, trace: PlannedTrace) -> None:
        """Process the trace that resulted from the plan."""

    def answer(self, site: Site) -> Answer:
        """Return the value of a controlled entry."""
        raise NotImplementedError


class PriorController(Planner):
    """Draw every entry from its prior, and entries of rejection scopes as often as the model asks for them.

    The trace has density prod p(x_i) over the entries outside scopes times prod p(x_s) 1{accepted} / Z_s over the
    scopes s. If the observations are scored, its log weight for the posterior is therefore

        log w = sum_n log p(y_n | x)        (the log likelihood; the scopes' 1 / Z_s cancel)

    Parameters
    ----------
    rng
        Random generator of this run.
    observations
        Values to condition on. None scores nothing, not even values that the model itself supplies.
    details
        Whether the trace needs what a chain needs of its states: log densities, scopes and repetitions.
    """

    def __init__(
        self, rng: np.random.Generator, observations: Observations | None = None, *, details: bool = False
    ) -> None:
        self.rng = rng
        self._observations, self._details = observations, details

    def plan(self) -> RunPlan:
        """Return the plan of a prior run."""
        return RunPlan(observed=self._observed, details=self._details)

    @property
    def _observed(self) -> dict[str, Array] | None:
        return None if self._observations is None else self._observations.values

    def sample(self, site: Site) -> float:
        """Return a draw from the prior of the entry."""
        return site.distribution.sample(self.rng)

    def observe(self, name: str, distribution: ArrayDistribution, given: Array | None) -> Array | None:
        """Return the observed value of statement `name`, or None."""
        return None if self._observations is None else self._observations.value(name, distribution, given)


class ReplayController(PriorController):
    """Replay the first accepted entries of another run by position, then draw from the prior.

    Accepted repetitions are replayed as first repetitions, which the model must then accept: nothing it does may depend
    on what was rejected.

    Parameters
    ----------
    addresses, distributions, values
        Accepted entries to replay, in trace order.
    """

    def __init__(
        self,
        addresses: Sequence[int],
        distributions: Sequence[Distribution],
        values: Sequence[float],
        rng: np.random.Generator,
        observations: Observations | None = None,
    ) -> None:
        super().__init__(rng, observations)
        self._addresses, self._distributions, self._values = addresses, distributions, values
        self._length = len(values)

    def sample(self, site: Site) -> float:
        """Return the recorded value, or a draw from the prior after the last recorded entry."""
        position = site.position
        if position >= self._length:
            return self.continued(site)
        check_replayed(site, self._addresses[position], self._distributions[position])
        return self._values[position]

    def continued(self, site: Site) -> float:
        """Return the value of an entry after the replayed ones."""
        return site.distribution.sample(self.rng)


class SavedTrace(NamedTuple):
    """Accepted entries of a trace as JSON values, to be replayed by another process."""

    keys: list[AddressKey]
    values: list[float]
    scopes: list[int]


def saved_trace(addresses: AddressTable, trace: Trace) -> SavedTrace:
    """Return the accepted entries of a trace in the form that can be replayed by another process."""
    address, name, value, scope, flags = trace.address, trace.name, trace.value, trace.scope, trace.flags
    accepted = trace.accepted
    keys = [(*split(addresses.name(address[i])), name[i], flags[i] & (CONTROLLED | REPLACED)) for i in accepted]
    return SavedTrace(keys, [value[i] for i in accepted], [scope[i] for i in accepted])


class RestoreController(PriorController):
    """Replay all accepted entries of a saved trace.

    The caller has to check the resulting trace: entries after the last saved one, or at other addresses, are drawn from
    the prior.
    """

    def __init__(self, table: AddressTable, saved: SavedTrace, observations: Observations) -> None:
        super().__init__(np.random.default_rng(0), observations, details=True)
        self._table, self._saved = table, saved

    def sample(self, site: Site) -> float:
        """Return the recorded value."""
        position = site.position
        if position < len(self._saved.values):
            base, instance, _, _ = self._saved.keys[position]
            if self._table.name(site.address) == join(base, instance):
                return self._saved.values[position]
        return super().sample(site)

    def plan(self) -> RunPlan:
        """Return the plan of the replay."""
        rows = SavedKeys(self._saved.keys).rows(self._saved.values, self._saved.scopes)
        return super().plan()._replace(rows=rows, prefix=rows.size)


class CountRepetitions(ReplayController):
    """Replay everything before a rejection scope, draw the scope with its prior loop, and count its repetitions.

    The count R is geometric with E[R] = 1 / Z: an unbiased estimate of the inverse acceptance probability of the scope
    in the replayed context.

    Parameters
    ----------
    trace, scope
        A trace, and the running number of a rejection scope in it.
    """

    repetitions = 0
    """Repetitions of the scope that begins after the replayed entries."""
    _scope = 0

    def __init__(self, trace: Trace, scope: int, rng: np.random.Generator) -> None:
        accepted, scopes = trace.accepted, trace.scope
        before = accepted[: next(n for n, i in enumerate(accepted) if scopes[i] == scope)]
        self._rows: ReplayRows | None = trace.rows.first(len(before)) if isinstance(trace, PlannedTrace) else None
        if self._rows is not None:
            super().__init__((), (), (), rng)  # a plan replays them
            return
        address, distribution, value = trace.address, trace.distribution, trace.value
        super().__init__(
            [address[i] for i in before], [distribution[i] for i in before], [value[i] for i in before], rng
        )

    def continued(self, site: Site) -> float:
        """Draw from the prior, and count the repetitions of the first scope."""
        if site.position == self._length:
            self._scope = site.scope
        if site.scope == self._scope:
            self.repetitions = site.repetition + 1
        return site.distribution.sample(self.rng)

    def plan(self) -> RunPlan:
        """Return the plan of the run."""
        assert self._rows is not None  # only traces that resulted from a plan lead here
        return RunPlan(rows=self._rows, prefix=self._rows.size, details=True)

    def receive(self, trace: PlannedTrace) -> None:
        """Read the number of repetitions from the scope that follows the replayed entries."""
        assert self._rows is not None
        check_complete_replay(trace)
        details = trace.rows.details[self._rows.size :]
        if not len(details):
            raise InferenceError(f"replay broke off at entry {len(trace)}: the run ended. {EXPECTED_REPLAY}")
        self.repetitions = 1 + int(details["repetition"][details["scope"] == details["scope"][0]].max())


def check_complete_replay(trace: PlannedTrace) -> None:
    """Check that a run reached all entries that its plan replays by position.

    Raises
    ------
    InferenceError
        If it did not; see `check_replayed`.
    """
    if trace.mismatch:
        raise InferenceError(
            f"replay broke off at entry {len(trace)}: the model asks for a different entry, or for the same one with a "
            f"different prior. {EXPECTED_REPLAY}"
        )


EXPECTED_REPLAY = (
    "Expected a model that does the same when given the same values: look for draws outside sample statements (a "
    "random number generator of the model's own), for state kept between runs (counters, caches), and for rejection "
    "loops that depend on what they rejected."
)


def replay_difference(expected: Trace, found: Trace) -> str | None:
    """Return how the replay of a trace's accepted entries differs from the trace; None if it does not."""
    if isinstance(found, PlannedTrace) and found.mismatch:
        return f"it broke off at entry {len(found)}"
    addresses = [[trace.address[i] for i in trace.accepted] for trace in (expected, found)]
    if addresses[0] != addresses[1]:
        return f"expected the {len(addresses[0])} entries of the trace, found {len(addresses[1])} or different ones"
    if expected.log_likelihood != found.log_likelihood:
        statements = (
            f" (observe statement {now.name!r})"
            for before, now in zip(expected.observes, found.observes, strict=False)
            if before.log_prob != now.log_prob
        )
        where = next(statements, "")
        return f"expected the log likelihood {expected.log_likelihood}, found {found.log_likelihood}{where}"
    if list(expected.tags) != list(found.tags):
        return f"expected the tags {list(expected.tags)}, found {list(found.tags)}"
    for name, value in expected.tags.items():
        if not np.array_equal(value, found.tags[name], equal_nan=True):
            return f"expected the tag {name!r} to be {value}, found {found.tags[name]}"
    if expected.result != found.result and not (expected.result != expected.result and found.result != found.result):
        return f"expected the result {expected.result}, found {found.result}"
    return None


def check_replayed(site: Site, address: int, distribution: Distribution) -> None:
    """Check that a replayed run asks for the recorded entry.

    Raises
    ------
    InferenceError
        If it does not. Then the simulator draws random numbers or keeps state outside its sample statements, or what it
        does after a rejection scope depends on the rejected repetitions.
    """
    if (
        site.address == address
        and site.repetition == 0
        and (site.distribution is distribution or site.distribution == distribution)
    ):
        return
    what = "another repetition" if site.repetition else "a different entry"
    raise InferenceError(
        f"replay broke off at entry {site.position}: the model asks for {what} (address number {site.address}, "
        f"{site.distribution}, repetition {site.repetition}) where number {address}, {distribution}, was recorded. "
        f"{EXPECTED_REPLAY}"
    )
