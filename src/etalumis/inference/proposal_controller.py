# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What answers the controlled draws of a run with the proposals of a network."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from etalumis.address import AddressTable
from etalumis.delegation import Answer, HandOver, RunPlan
from etalumis.distributions import Distribution
from etalumis.errors import InferenceError
from etalumis.execution import Site
from etalumis.inference.observations import Observations
from etalumis.inference.scope_choice import ContextTracker, ScopeChoice
from etalumis.trace import CONTROLLED, Trace
from etalumis.typing import Array


class Proposal(NamedTuple):
    """A proposed value, its log density log q, and its log density under the prior, log p."""

    value: float
    log_q: float
    log_prior: float


class ProposalSource(ABC):
    """A network that has embedded an observation and proposes the values of a run, one after the other.

    Some proposals may depend on tags that the run has emitted before, and values may be proposed in several runs at a
    time, each in its own lane. By default, there are no such tags, and one lane; a source with several lanes also
    defines `knows` and `propose_all`.
    """

    @property
    def lanes(self) -> int:
        """Number of lanes; with several, there are `knows` and `propose_all`."""
        return 1

    @abstractmethod
    def begin(self, lane: int = 0) -> None:
        """Start a run in a lane."""

    @abstractmethod
    def propose(self, address: str, distribution: Distribution, rng: np.random.Generator) -> tuple[float, float] | None:
        """Return (value, log q(value)) for the run in lane 0, or None if the address is unknown."""

    @abstractmethod
    def log_density(self, address: str, distribution: Distribution, value: float) -> float | None:
        """Return log q(value) as if `propose` had returned this value, or None if the address is unknown."""

    def knows(self, address: str) -> bool:
        """Return whether it proposes values of an address."""
        raise NotImplementedError

    def propose_all(
        self,
        lanes: Sequence[int],
        addresses: Sequence[str],
        distributions: Sequence[Distribution],
        rngs: Sequence[np.random.Generator],
    ) -> Sequence[Proposal]:
        """Propose the next value in each of some lanes, for known addresses."""
        raise NotImplementedError

    def needs_tags(self, address: str) -> bool:
        """Return whether the proposal at an address depends on tags."""
        return False

    def visible_tags(self, tags: Mapping[str, Array]) -> Array:
        """Return those of the tags of a run that it sees, as one vector; NaN for a tag that it does not have."""
        return np.empty(0)

    def see(self, tags: Array, lane: int = 0) -> None:
        """Set what `visible_tags` returned for the run in a lane, after its `begin`."""
        del tags, lane  # a source that needs no tags


class ProposalController:
    """Answers the controlled draws of an assisted run with values of a `ProposalSource`.

    Attributes
    ----------
    log_weight
        Sum over the proposed entries of log p(x_i) - log q(x_i); -inf if a proposed scope asks for a second repetition.
    lost
        Whether a proposed scope asked for a second repetition.
    proposed_scopes
        Numbers of the proposed scopes, in order.
    asked, unknown
        Number of controlled entries that the network was asked for, and of those whose address it does not know.
    blind
        Whether an entry was reached whose proposal depends on tags that were not given: the rest of the run, from this
        entry on, was drawn from the prior.
    """

    def __init__(
        self,
        session: ProposalSource,
        addresses: AddressTable,
        rng: np.random.Generator,
        observations: Observations,
        choice: ScopeChoice,
        tags: Array | None = None,
    ) -> None:
        self.rng, self._observations = rng, observations
        self._session, self._addresses, self._choice = session, addresses, choice
        self._has_tags = tags is not None
        self.blind = False
        self._contexts = ContextTracker()
        self._scope = 0
        self._scope_from_prior = False
        self.log_weight = 0.0
        self.lost = False
        self.proposed_scopes: list[int] = []
        self.asked = self.unknown = 0
        session.begin()
        if tags is not None:
            session.see(tags)

    def plan(self) -> RunPlan:
        """Return the plan of the run."""
        return RunPlan(observed=self._observations.values, details=True)

    def answer(self, site: Site) -> Answer:
        """Return a proposed value, or let the model draw the entry, its scope or the rest of the run from the prior."""
        entered = site.scope != self._scope
        if entered:
            self._scope = site.scope
            self._scope_from_prior = bool(site.scope) and (
                site.repetition > 0 or self._choice.is_drawn(self._contexts.of_scope(site.address))
            )
        if self.lost or self.blind:
            return Answer(None, HandOver.REST)
        if self._scope_from_prior:
            self._contexts.end()
            return Answer(None, HandOver.SCOPE)
        if site.scope and site.repetition:
            self.lost, self.log_weight = True, -math.inf
            return Answer(None, HandOver.REST)
        value = self._proposed(site)
        if self.blind:
            return Answer(None, HandOver.REST)
        if value is None:
            self._scope_from_prior = entered and bool(site.scope)
            if self._scope_from_prior:
                self._contexts.end()
                return Answer(None, HandOver.SCOPE)
            value = site.distribution.sample(self.rng)
        elif entered and site.scope:
            self.proposed_scopes.append(site.scope)
        self._contexts.add(site.address, value, site.distribution.discrete)
        return Answer(value)

    def receive(self, trace: Trace) -> None:
        """Detect a second repetition that asked for no value, since it has no controlled draw."""
        if self.proposed_scopes and repeated_scopes(trace, self.proposed_scopes):
            self.lost, self.log_weight = True, -math.inf

    def _proposed(self, site: Site) -> float | None:
        address = self._addresses.name(site.address)
        if not self._has_tags and self._session.needs_tags(address):
            self.blind = True
            return None
        self.asked += 1
        proposal = self._session.propose(address, site.distribution, self.rng)
        if proposal is None:
            self.unknown += 1
            return None
        value, log_q = proposal
        require_finite(value, log_q, address)
        self.log_weight += site.distribution.log_prob(value) - log_q
        return value


def repeated_scopes(trace: Trace, scopes: Sequence[int]) -> list[int]:
    """Return those of some rejection scopes that have more than one repetition, in order."""
    last = dict(zip(trace.scope, trace.repetition, strict=True))
    return [scope for scope in scopes if last.get(scope, 0) > 0]


def proposed_before(
    trace: Trace, session: ProposalSource, addresses: AddressTable, choice: ScopeChoice
) -> tuple[float, list[int]]:
    """Return what a `ProposalController` would have found if it had proposed the accepted entries of a trace.

    Returns
    -------
    float, list
        Sum over the proposed entries of log p(x_i) - log q(x_i), inf if it would never propose one of them, and the
        numbers of the proposed scopes.
    """
    session.begin()
    choice.learn(trace)
    has_tags = False
    contexts, scope, from_prior = ContextTracker(), 0, False
    log_weight = 0.0
    proposed_scopes: list[int] = []
    address, value, distribution = trace.address, trace.value, trace.distribution
    flags, scopes, log_prior = trace.flags, trace.scope, trace.log_prob
    for i in trace.accepted:
        entered = scopes[i] != scope
        if entered:
            scope = scopes[i]
            from_prior = bool(scope) and choice.is_drawn(contexts.of_scope(address[i]))
        log_q, name = None, addresses.name(address[i])
        if not has_tags and session.needs_tags(name):
            session.see(session.visible_tags(trace.tags))
            has_tags = True
        if flags[i] & CONTROLLED and not from_prior:
            log_q = session.log_density(name, distribution[i], value[i])
        if log_q is not None:
            if log_q == -math.inf:
                return math.inf, proposed_scopes
            require_finite(value[i], log_q, name)
            log_weight += log_prior[i] - log_q
            if entered and scope:
                proposed_scopes.append(scope)
        elif entered and scope:
            from_prior = True
        if from_prior:
            contexts.end()
        elif flags[i] & CONTROLLED:
            contexts.add(address[i], value[i], distribution[i].discrete)
    return log_weight, proposed_scopes


def require_finite(value: float, log_q: float, address: str) -> None:
    """Raise `InferenceError` if the log density of a proposed value is not finite."""
    if not -math.inf < log_q < math.inf:
        raise InferenceError(
            f"the network proposed {value} with log density {log_q} at {address}; expected a "
            "finite log density. Train the network again: its weights have diverged."
        )
