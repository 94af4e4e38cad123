# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""From the numbers of a simulator's session to those of a trace file: a table look-up a column."""

import numpy as np

from etalumis.address import join
from etalumis.plan import OWN_PRIOR, Keys, PlannedTrace
from etalumis.trace import CONTROLLED, REPLACED
from etalumis.traces.dictionary import Dictionary

KEPT_FLAGS = CONTROLLED | REPLACED
"""Flags that a trace file keeps."""
_KEPT_TYPES = 65_536


class KeyNumbers:
    """The columns of traces of one session, in the numbers of `dictionary`."""

    def __init__(self, keys: Keys, dictionary: Dictionary) -> None:
        self._keys, self._dictionary = keys, dictionary
        self._address = np.empty(0, np.int64)  # by number of the session; -1 = not met yet
        self._flags = np.empty(0, np.uint8)
        self._prior = np.empty(0, np.int64)
        self._types: dict[bytes, bytes] = {}

    def columns(self, trace: PlannedTrace) -> tuple[dict[str, np.ndarray], bytes]:
        """Return the columns of the trace's accepted entries, and its type."""
        entries = trace.accepted_entries
        address = entries["address"]
        numbers = self._addresses(address)
        columns = {
            "address": numbers,
            "distribution": self._priors(trace, entries["distribution"]),
            "value": entries["value"],
            "flags": self._flags[address],
        }
        key = address.tobytes()
        kind = self._types.get(key)
        if kind is None:
            if len(self._types) >= _KEPT_TYPES:
                self._types.clear()
            kind = self._types[key] = trace.type
        return columns, kind

    def _addresses(self, address: np.ndarray) -> np.ndarray:
        self._address = _grown(self._address, address, -1)
        self._flags = _grown(self._flags, address, 0)
        numbers = self._address[address]
        if len(numbers) and int(numbers.min()) < 0:
            for number in address[numbers < 0].tolist():
                base, instance, name, flags = self._keys.key(number)
                self._address[number] = self._dictionary.address(join(base, instance), name)
                self._flags[number] = flags & KEPT_FLAGS
            numbers = self._address[address]
        return np.asarray(numbers)

    def _priors(self, trace: PlannedTrace, distribution: np.ndarray) -> np.ndarray:
        if len(distribution) and int(distribution.max()) >= OWN_PRIOR:
            return np.array([self._number(trace, number) for number in distribution.tolist()], np.int64)
        self._prior = _grown(self._prior, distribution, -1)
        numbers = self._prior[distribution]
        if len(numbers) and int(numbers.min()) < 0:
            for number in distribution[numbers < 0].tolist():
                self._prior[number] = self._number(trace, number)
            numbers = self._prior[distribution]
        return np.asarray(numbers)

    def _number(self, trace: PlannedTrace, number: int) -> int:
        prior = trace.prior(number)
        return self._dictionary.distribution((prior.code, prior.parameters))


def _grown(table: np.ndarray, numbers: np.ndarray, fill: int) -> np.ndarray:
    """Return a table that has a row for each number."""
    wanted = int(numbers.max(initial=0)) + 1
    if wanted <= len(table):
        return table
    return np.concatenate([table, np.full(max(wanted, 2 * len(table)) - len(table), fill, table.dtype)])
