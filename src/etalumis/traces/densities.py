# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Quantities derived from the entries of traces, column by column: log prior densities and trace types."""

import math
from collections.abc import Sequence

import numpy as np

from etalumis.address import trace_type
from etalumis.distributions import Categorical, Distribution, Normal, Uniform, from_code
from etalumis.distributions.continuous import LOG_2PI
from etalumis.trace import CONTROLLED
from etalumis.traces.dictionary import PriorKey
from etalumis.traces.ragged import Ragged, offsets


def prior(code: int, parameters: tuple[float, ...]) -> Distribution:
    """Return the distribution with a PPX code and parameters in wire order.

    Raises
    ------
    ValueError
        If the code is unknown, or the number of parameters is wrong, or a parameter is out of range.
    """
    try:
        return from_code(code, parameters)
    except TypeError:
        raise ValueError(f"distribution {code} with {len(parameters)} parameters: wrong number of parameters") from None


class PriorTable:
    """Log densities of many values at once; a reference implementation is `prior(...).log_prob(value)` for each.

    Uniform, Categorical and Normal priors are evaluated as arrays. The others, which simulators draw rarely, are
    evaluated one by one.

    Raises
    ------
    ValueError
        If a distribution is not valid; the message contains its index.
    """

    def __init__(self, distributions: Sequence[PriorKey]) -> None:
        self._code = np.array([code for code, _ in distributions], np.int64)
        self._first, self._second = (np.full(len(distributions), np.nan) for _ in range(2))
        self._constant = np.zeros(len(distributions))
        self._others: dict[int, Distribution] = {}
        tables: list[np.ndarray] = []
        sizes = np.zeros(len(distributions), np.int64)
        for number, (code, parameters) in enumerate(distributions):
            try:
                known = prior(code, parameters)
            except ValueError as error:
                raise ValueError(f"distribution number {number}: {error}") from None
            if isinstance(known, Uniform):
                self._first[number], self._second[number] = known.low, known.high
                self._constant[number] = -math.log(known.high - known.low)
            elif isinstance(known, Normal):
                self._first[number], self._second[number] = known.mean, known.stddev
                self._constant[number] = -math.log(known.stddev)
            elif isinstance(known, Categorical):
                tables.append(np.array([known.log_prob(float(k)) for k in range(len(known.probs))]))
                sizes[number] = len(known.probs)
            else:
                self._others[number] = known
        self._table_offset = offsets(sizes)
        self._tables = np.concatenate([*tables, np.empty(0)])

    def log_prob(self, numbers: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return float64 (entry,): log density of each value under its prior; -inf outside the support.

        Parameters
        ----------
        numbers
            Integers (entry,): indices in the list of distributions.
        values
            float64 (entry,), finite.
        """
        code, result = self._code[numbers], np.empty(len(values))
        rows = np.flatnonzero(code == Uniform.code)
        number, value = numbers[rows], values[rows]
        inside = (self._first[number] <= value) & (value <= self._second[number])
        result[rows] = np.where(inside, self._constant[number], -np.inf)
        rows = np.flatnonzero(code == Normal.code)
        number, value = numbers[rows], values[rows]
        z = (value - self._first[number]) / self._second[number]
        result[rows] = -0.5 * (z * z + LOG_2PI) + self._constant[number]
        rows = np.flatnonzero(code == Categorical.code)
        result[rows] = self._categorical(numbers[rows], values[rows])
        for row in np.flatnonzero(~np.isin(code, (Uniform.code, Normal.code, Categorical.code))).tolist():
            result[row] = self._others[int(numbers[row])].log_prob(float(values[row]))
        return result

    def _categorical(self, numbers: np.ndarray, values: np.ndarray) -> np.ndarray:
        start, size = self._table_offset[numbers], self._table_offset[numbers + 1] - self._table_offset[numbers]
        known = (values == np.floor(values)) & (values >= 0) & (values < size)
        result = np.full(len(values), -np.inf)
        result[known] = self._tables[start[known] + values[known].astype(np.int64)]
        return result


def log_priors(entries: Ragged, log_prob: np.ndarray) -> np.ndarray:
    """Return float64 (trace,): sum of the log densities of the entries of each trace, added in their order."""
    return np.bincount(entries.list_numbers(), log_prob, minlength=len(entries))


def trace_types(addresses: Sequence[str], entries: Ragged) -> np.ndarray:
    """Return u8 (trace, 16): `address.trace_type` of the controlled addresses of each trace.

    Parameters
    ----------
    addresses
        The address of each id.
    entries
        Entries with the columns `address` and `flags`.
    """
    controlled = entries.columns["flags"] & CONTROLLED != 0
    number = entries.columns["address"][controlled]
    ends = offsets(np.bincount(entries.list_numbers()[controlled], minlength=len(entries)))
    known: dict[bytes, bytes] = {}
    types = []
    for start, stop in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        key = number[start:stop].tobytes()
        kind = known.get(key)
        if kind is None:
            kind = known[key] = trace_type(addresses[i] for i in number[start:stop].tolist())
        types.append(kind)
    return np.frombuffer(b"".join(types), np.uint8).reshape(-1, 16)
