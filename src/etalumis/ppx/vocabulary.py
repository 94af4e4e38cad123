# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Numbers that both sides of a connection use for texts, addresses and priors, each of which is sent once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from etalumis.address import AddressTable, join
from etalumis.distributions import Distribution, from_code
from etalumis.errors import ProtocolError
from etalumis.ppx.messages import Frame, TraceColumns
from etalumis.rows import DETAIL, ENTRY, OWN_PRIOR, AddressKey, AddressKeys, Columns, ReplayRows

_MAX_CACHED_COLUMNS = 1024
"""Bound on the columns of numbers that are remembered as valid: traces of some models never repeat."""


class NewTerms(NamedTuple):
    """Texts and address keys that the simulator needs before it can read rows to replay."""

    texts: list[str]
    keys: list[tuple[int, int, int, int]]


class Priors:
    """The priors that the entries of one message refer to: those of the session, and those of the message only."""

    def __init__(self, kept: list[Distribution], own: Sequence[Distribution]) -> None:
        self._kept, self._own = kept, own

    def __getitem__(self, number: int) -> Distribution:
        return self._kept[number] if number < OWN_PRIOR else self._own[number - OWN_PRIOR]


class Vocabulary:
    """The numbers of one session.

    Both sides number new texts, addresses and priors in the order in which messages introduce them; numbers themselves
    are never sent. They never change within a session, because traces keep referring to them.

    Attributes
    ----------
    addresses
        The address table of the integers in `identities` and in the column `address` of traces.
    texts
        By number.
    """

    def __init__(self, addresses: AddressTable) -> None:
        self.addresses = addresses
        self.texts: list[str] = []
        self._text_numbers: dict[str, int] = {}
        self._keys = np.empty((0, 4), np.uint32)
        self._key_numbers: dict[tuple[int, int, int, int], int] = {}
        self._kept: list[Distribution] = []
        self._identities = np.empty(0, np.int64)
        self._priors = Priors(self._kept, ())  # of messages without priors of their own
        self._known_addresses: set[bytes] = set()
        self._known_priors: set[bytes] = set()

    def learn(self, message: TraceColumns) -> Priors:
        """Add what a message introduces; return the priors of its entries.

        Raises
        ------
        ProtocolError
            If the message contains an unknown number.
        """
        frame = message.frame
        if frame.texts:
            for text in frame.texts:
                self._add_text(text)
        if len(frame.addresses):
            for field in ("base", "name"):
                self._require(frame.addresses[field], len(self.texts), f"a {field}")
            self._add_keys([(int(b), int(i), int(n), int(f)) for b, i, n, f in frame.addresses.tolist()])
        entries = message.entries
        # the columns of a chain's traces repeat
        again = len(message.traces) == 1
        if again:
            message.address_bytes = self._check_once(
                entries["address"], self._known_addresses, len(self._keys), "addresses"
            )
        else:
            self._require(entries["address"], len(self._keys), "addresses")
        if frame.text_bound > len(self.texts):
            raise ProtocolError(
                f"traces with a tag or observation of unknown name or address; {len(self.texts)} texts are known"
            )
        if len(frame.priors):
            made = [_distribution(frame, i) for i in range(len(frame.priors))]
            self._kept += made[: frame.kept_priors]
            if own := made[frame.kept_priors :]:
                return self._own_priors(entries["distribution"], own)
        if again:
            self._check_once(entries["distribution"], self._known_priors, len(self._kept), "priors")
        else:
            self._require(entries["distribution"], len(self._kept), "priors")
        return self._priors

    def _own_priors(self, numbers: Columns, own: list[Distribution]) -> Priors:
        self._require(numbers[numbers >= OWN_PRIOR] - np.uint32(OWN_PRIOR), len(own), "own priors")
        self._require(numbers[numbers < OWN_PRIOR], len(self._kept), "priors")
        return Priors(self._kept, own)

    def identities(self, numbers: Columns) -> Columns:
        """Return the integers of entries' addresses in the address table."""
        return self._identities[numbers]

    def flags(self, numbers: Columns) -> Columns:
        """Return the flags that belong to entries' addresses."""
        flags: Columns = self._keys[numbers, 3]
        return flags

    def names(self, numbers: Columns) -> Columns:
        """Return the numbers of the texts that name the entries."""
        names: Columns = self._keys[numbers, 2]
        return names

    def key(self, number: int) -> AddressKey:
        """Return the key of an address number."""
        base, instance, name, flags = self._keys[number].tolist()
        return self.texts[base], instance, self.texts[name], flags

    def proposed(self, entries: Sequence[tuple[float, int, int]], scopes: Sequence[int]) -> ReplayRows:
        """Return proposed rows, as `rows.Numbering`."""
        details = np.zeros(len(entries), DETAIL)
        details["scope"] = scopes
        return ReplayRows(np.array(entries, ENTRY), details, self)

    def translated(self, rows: ReplayRows) -> tuple[ReplayRows, NewTerms | None]:
        """Return rows in the numbers of this session, and the terms that the simulator needs to read them."""
        origin: AddressKeys = rows.keys
        if origin is self:
            return rows, None
        new_terms = NewTerms([], [])
        numbers = {
            number: self._number(origin.key(number), new_terms) for number in set(rows.entries["address"].tolist())
        }
        entries = rows.entries.copy()
        entries["address"] = [numbers[number] for number in rows.entries["address"].tolist()]
        return ReplayRows(entries, rows.details, self), new_terms if new_terms.keys else None

    def _number(self, key: AddressKey, new_terms: NewTerms) -> int:
        base, instance, name, flags = key
        mine = (self._text_number(base, new_terms), instance, self._text_number(name, new_terms), flags)
        found = self._key_numbers.get(mine)
        if found is None:
            found = len(self._keys)
            self._add_keys([mine])
            new_terms.keys.append(mine)
        return found

    def _text_number(self, text: str, new_terms: NewTerms) -> int:
        found = self._text_numbers.get(text)
        if found is None:
            found = self._add_text(text)
            new_terms.texts.append(text)
        return found

    def _add_text(self, text: str) -> int:
        number = self._text_numbers[text] = len(self.texts)
        self.texts.append(text)
        return number

    def _add_keys(self, keys: list[tuple[int, int, int, int]]) -> None:
        for key in keys:
            self._key_numbers[key] = len(self._key_numbers)
        if len(self._key_numbers) != len(self._keys) + len(keys):
            raise ProtocolError("traces that number an address a second time")
        self._keys = np.concatenate([self._keys, np.array(keys, np.uint32)])
        new = [self.addresses.intern(join(self.texts[base], instance)) for base, instance, _, _ in keys]
        self._identities = np.concatenate([self._identities, np.array(new, np.int64)])

    def _check_once(self, numbers: Columns, known: set[bytes], count: int, what: str) -> bytes:
        """Check numbers as `_require` does, unless they passed before; return their bytes."""
        column = numbers.tobytes()
        if column not in known:
            self._require(numbers, count, what)
            if len(known) >= _MAX_CACHED_COLUMNS:
                known.clear()
            known.add(column)
        return column

    @staticmethod
    def _require(numbers: Columns, count: int, what: str) -> None:
        if len(numbers) and int(numbers.max()) >= count:
            raise ProtocolError(f"traces that refer to {what} up to number {int(numbers.max())}; {count} are known")


def _distribution(message: Frame, number: int) -> Distribution:
    record = message.priors[number]
    first = int(record["first"])
    parameters = tuple(message.parameters[first : first + int(record["count"])].tolist())
    try:
        return from_code(int(record["kind"]), parameters)
    except (ValueError, TypeError) as error:
        raise ProtocolError(f"traces with a prior that is not valid: {error}") from error
