# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Traces of delegated runs: columns of a message, converted to lists and objects on access."""

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from etalumis.address import AddressTable
from etalumis.delegation import RunPlan
from etalumis.distributions import ArrayDistribution, Distribution, Normal, SparseNormal
from etalumis.errors import ProtocolError
from etalumis.ppx.columns import DIVERGED, LOST, MISFIT, MISMATCH, REPEATED, SCORED, STATED, VALUE, array_of
from etalumis.ppx.messages import PARAMETERS, ObserveRecord, TraceColumns, TraceRecord
from etalumis.ppx.vocabulary import Priors, Vocabulary
from etalumis.rows import Columns, ReplayRows
from etalumis.trace import CONTROLLED, REJECTED, Observed, Trace

_NO_DETAILS = "this trace has no details; request them with RunPlan(details=True)"


class DelegatedBatch:
    """The runs of one message, with the vocabulary of their numbers."""

    def __init__(self, message: TraceColumns, vocabulary: Vocabulary, plan: RunPlan) -> None:
        self.priors: Priors = vocabulary.learn(message)
        self.message, self.vocabulary, self.plan = message, vocabulary, plan
        self.alone = len(message.traces) == 1

    @cached_property
    def has_unscored(self) -> bool:
        """Whether any observe entry has no observed value."""
        return bool((self.message.frame.observes["flags"] & (SCORED | MISFIT) == 0).any())

    def traces(self) -> "list[DelegatedTrace]":
        """Return the runs, in the order of the request."""
        records = self.message.traces
        if len(records) == 1:
            return [DelegatedTrace(self, records[0], 0, 0, 0, 0)]
        found, entry, observe, tag = [], 0, 0, 0
        for number, record in enumerate(records):
            found.append(DelegatedTrace(self, record, entry, observe, tag, number))
            entry, observe, tag = entry + record.entries, observe + record.observes, tag + record.tags
        return found


class DelegatedTrace(Trace):
    """One run of a batch.

    Attributes
    ----------
    batch
        The runs of the same message, including this one.
    """

    __slots__ = ("_first", "_record", "batch")

    def __init__(self, batch: DelegatedBatch, record: TraceRecord, *first: int) -> None:
        self.batch, self._record = batch, record
        self._first = first  # indices of its first entry, observe record and tag in the message, and its own

    @property
    def spans(self) -> tuple[slice, slice, slice]:
        """Slices of its entries, observe records and tags in the message."""
        record = self._record
        (entry, observe, tag, _), (_, _, entries, observes, tags) = self._first, record[:5]
        return slice(entry, entry + entries), slice(observe, observe + observes), slice(tag, tag + tags)

    @property
    def number(self) -> int:
        """Index of the run in the message."""
        return self._first[3]

    @property
    def record(self) -> TraceRecord:
        """Its record in the message."""
        return self._record

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary of the numbers in `entries`."""
        return self.batch.vocabulary

    @property
    def priors(self) -> Priors:
        """The priors of the numbers in the column `distribution`."""
        return self.batch.priors

    @property
    def entries(self) -> Columns:
        """The entries: structs `Entry` of the schema, in the numbers of the session."""
        entries = self.batch.message.entries
        return entries if self.batch.alone else entries[self.spans[0]]

    @property
    def details(self) -> Columns:
        """The details of the entries, if they were requested."""
        details = self.batch.message.details
        if not len(details) and len(self):
            raise ValueError(_NO_DETAILS)
        return details if self.batch.alone else details[self.spans[0]]

    @property
    def keys(self) -> Vocabulary:
        """What the numbers in the columns `address` and `distribution` belong to."""
        return self.batch.vocabulary

    @property
    def accepted_numbers(self) -> list[tuple[int, int]]:
        """Numbers of address and prior of each accepted entry."""
        entries = self.rows.entries if self.batch.plan.rejected else self.entries
        return list(zip(entries["address"].tolist(), entries["distribution"].tolist(), strict=True))

    @property
    def rows(self) -> ReplayRows:
        """The accepted entries as rows to replay; only for plans with `details`."""
        batch = self.batch
        message = batch.message
        starts = message.frame.starts
        if batch.alone and starts.detail_count and not batch.plan.rejected:
            data = message.message
            return ReplayRows(
                data[starts.entry_bytes], data[starts.detail_bytes], batch.vocabulary, message.address_bytes
            )
        entries, details = self.entries, self.details
        if batch.plan.rejected:
            accepted = (details["flags"] & REJECTED) == 0
            entries, details = entries[accepted], details[accepted]
        return ReplayRows(entries, details, batch.vocabulary)

    def __len__(self) -> int:
        return self._record.entries

    def prior(self, number: int) -> Distribution:
        """Return the prior of a number in the column `distribution`."""
        return self.batch.priors[number]

    @property
    def lost(self) -> bool:
        """Whether an open scope began another repetition."""
        return bool(self._record.flags & LOST)

    @property
    def mismatch(self) -> bool:
        """Whether the run did not reach the entries to replay by position, or their priors differed."""
        return bool(self._record.flags & MISMATCH)

    @property
    def diverged(self) -> bool:
        """Whether a controlled entry differed from its proposed row, or a proposed row was not used."""
        return bool(self._record.flags & DIVERGED)

    @property
    def repeated(self) -> bool:
        """Whether a scope whose proposed rows were all used, like those before it, began another repetition."""
        return bool(self._record.flags & REPEATED)

    @property
    def seed(self) -> int:
        """Seed of its draws."""
        return self._record.seed

    @property
    def draws(self) -> int:
        """Number of draws of the run, including those of rejected repetitions."""
        return self._record.draws

    @property
    def addresses(self) -> AddressTable:
        """The table of the integers in `address`."""
        return self.batch.vocabulary.addresses

    @property
    def address(self) -> list[int]:
        """Integer of each entry's address."""
        return _integers(self.batch.vocabulary.identities(self.entries["address"]))

    @property
    def value(self) -> list[float]:
        """Value of each entry."""
        return _numbers(self.entries["value"])

    @property
    def distribution(self) -> list[Distribution]:
        """Prior of each entry."""
        priors = self.batch.priors
        return [priors[number] for number in self.entries["distribution"].tolist()]

    @property
    def log_prob(self) -> list[float]:
        """Log density of each value under its prior."""
        return _numbers(self.details["log_prob"])

    @property
    def flags(self) -> list[int]:
        """`CONTROLLED`, `REPLACED`, `REJECTED` or their sums."""
        return _integers(self._flags())

    def _flags(self) -> Columns:
        flags = self.batch.vocabulary.flags(self.entries["address"])
        details = self.batch.message.details
        return flags | details["flags"][self.spans[0]] if len(details) else flags

    @property
    def scope(self) -> list[int]:
        """Running number of each entry's rejection scope; 0 outside scopes."""
        return _integers(self.details["scope"])

    @property
    def repetition(self) -> list[int]:
        """Repetition of the scope, from 0."""
        return _integers(self.details["repetition"])

    @property
    def name(self) -> list[str]:
        """Name of each entry; "" if it has none."""
        texts = self.batch.vocabulary.texts
        return [texts[number] for number in self.batch.vocabulary.names(self.entries["address"]).tolist()]

    @property
    def type(self) -> bytes:
        """128-bit digest of the sequence of controlled addresses."""
        controlled = self.entries["address"][self._flags() & (CONTROLLED | REJECTED) == CONTROLLED]
        return self.addresses.type_of(tuple(_integers(self.batch.vocabulary.identities(controlled))))

    @property
    def log_prior(self) -> float:
        """Sum of log p(x_i) over the accepted entries."""
        return self._record.log_prior

    @property
    def log_likelihood(self) -> float:
        """Sum of log p(y_n | x) over the observe entries."""
        scores = self.batch.message.scores
        if not self.batch.alone:
            first = self._first[1]
            scores = scores[first : first + self._record.observes]
        return sum(scores, 0.0)

    @property
    def observes(self) -> list[Observed]:
        """The observe entries, in order."""
        return [self._observe(record) for record in self.batch.message.observes[self.spans[1]]]

    @property
    def log_ratio(self) -> float:
        """Sum of log p'(x_i) - log p(x_i) over the entries that reused the value of a row."""
        return self._record.log_ratio

    def misfits(self) -> Sequence[Observed]:
        """Return the observe entries whose observed value does not have the shape of the statement."""
        records = self.batch.message.observes[self.spans[1]]
        return [self._observe(record) for record in records if record.flags & MISFIT]

    def unscored(self) -> Sequence[Observed]:
        """Return the observe entries that have no observed value, of a plan that scores."""
        batch = self.batch
        if batch.plan.observed is None or not batch.has_unscored:
            return ()
        records = batch.message.observes[self.spans[1]]
        return [self._observe(record) for record in records if not record.flags & (SCORED | MISFIT)]

    @property
    def tags(self) -> dict[str, np.ndarray]:
        """The tagged values, by name."""
        batch = self.batch
        message, frame, result = batch.message, batch.message.frame, self._record.result
        found: dict[str, np.ndarray] = {}
        if frame.tags:
            texts = batch.vocabulary.texts
            found = {texts[name]: array_of(message, array) for name, array in frame.tags[self.spans[2]]}
        if result >= 0 and math.prod(frame.arrays[result].shape) > 1:
            found["result"] = array_of(message, result)  # as in an interactive run
        return found

    @property
    def result(self) -> float | None:
        """The return value of the model, if it is a single number."""
        number = self._record.result
        if number < 0:
            return None
        start, size, _, positions = self.batch.message.frame.arrays[number]
        return float(self.batch.message.data[start]) if size == 1 and positions < 0 else None

    def _observe(self, record: ObserveRecord) -> Observed:
        batch, message = self.batch, self.batch.message
        texts = batch.vocabulary.texts
        name, flags, at, kind = record.name, record.flags, record.arrays, record.kind
        value = distribution = None
        if flags & VALUE:
            value = array_of(message, at)
            at += 1
        if flags & STATED:
            try:
                distribution = _stated(message, kind, at)
            except ValueError as error:
                raise ProtocolError(f"observe statement {texts[name]!r}: {error}") from error
        if flags & SCORED and value is None and batch.plan.observed is not None:
            value = batch.plan.observed.get(texts[name])
        return Observed(texts[name], texts[record.address], distribution, value, record.log_prob)


def _stated(message: TraceColumns, kind: int, first: int) -> ArrayDistribution:
    """Return the distribution of an observe statement whose first parameter is array number `first`."""
    if kind == Normal.code:
        start, size, shape, at = message.frame.arrays[first]
        stddev = message.frame.arrays[first + 1]
        if at >= 0 and stddev.size == 1 and len(stddev.shape) <= len(shape) and stddev.positions < 0:
            positions, means = message.frame.positions[at : at + size], message.data[start : start + size]
            return SparseNormal(shape, positions, means, float(message.data[stddev.start]))
    return ArrayDistribution(kind, tuple(array_of(message, first + i) for i in range(PARAMETERS[kind])))


def _integers(column: Columns) -> list[int]:
    integers: list[int] = column.tolist()
    return integers


def _numbers(column: Columns) -> list[float]:
    numbers: list[float] = column.tolist()
    return numbers
