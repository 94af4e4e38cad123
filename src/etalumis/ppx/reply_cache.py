# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Answers that are like an earlier one: a chain gets thousands that differ in nothing but their numbers.

An answer with one trace that names nothing new was read and checked as a whole once. Another one of the same length
with the same bytes in all places but those of values and densities has the same vectors in the same places, and what
was checked of the first holds for it.
"""

import struct
from collections.abc import Callable
from operator import itemgetter
from typing import Any

from etalumis.delegation import DETAIL, ENTRY
from etalumis.ppx.messages import TraceColumns, TraceRecord

_OBSERVE_BYTES = 32
_DENSITIES_AT = 40
"""Where a trace record has its two log densities; seed and number of draws are its first 16 bytes."""


class ReplyTemplate:
    """What an answer has to look like to be read as the one that the pattern was made of.

    Its log densities, its seed and number of draws, the numbers of its arrays, its entries and their details may be
    others. What the entries refer to is for `Numbering` to check, in every answer.

    Raises ValueError where the vectors of the answer lie over each other.
    """

    def __init__(self, found: TraceColumns) -> None:
        data, starts = found.message, found.frame.starts
        record = starts.traces
        free = [(record, "QQ"), (record + _DENSITIES_AT, "dd")]
        scores = [starts.observes + _OBSERVE_BYTES * i for i in range(len(found.scores))]
        free += [(place, "d") for place in scores]
        for start, size in (
            (starts.entries, starts.entry_count * ENTRY.itemsize),
            (starts.details, starts.detail_count * DETAIL.itemsize),
            (starts.data, starts.data_count * 8),
        ):
            free += [(start, f"{size}x")] if size else []
        form, fixed, numbers = _form(sorted(free), len(data))
        self._unpack = struct.Struct(form).unpack
        self._fixed: Callable[[tuple[Any, ...]], Any] = itemgetter(*fixed)
        places = [record, record + 8, record + _DENSITIES_AT, record + _DENSITIES_AT + 8, *scores]
        self._numbers: Callable[[tuple[Any, ...]], Any] = itemgetter(*(numbers[place] for place in places))
        self._expected = self._fixed(self._unpack(data))
        frame = found.frame
        # copies: the records are views of the message
        self._frame = frame._replace(
            observes=frame.observes.copy(),
            tag_records=frame.tag_records.copy(),
            array_records=frame.array_records.copy(),
            extents=frame.extents.copy(),
        )
        self._trace: tuple[Any, ...] = found.traces[0][2:8]  # what is fixed of the record

    def read(self, data: bytes) -> TraceColumns | None:
        """Return the columns of an answer of the same length; None where it is another one."""
        fields = self._unpack(data)
        if self._fixed(fields) != self._expected:
            return None
        seed, draws, log_prior, log_ratio, *scores = self._numbers(fields)
        trace = TraceRecord._make((seed, draws, *self._trace, log_prior, log_ratio))
        return TraceColumns(data, self._frame, [trace], scores)


def _form(free: list[tuple[int, str]], length: int) -> tuple[str, list[int], dict[int, int]]:
    """Return the format of the whole message, the fields that are fixed bytes, and the field of the number at a place.

    `free` are the places between the fixed bytes, in order, and the codes of what is there.
    """
    form, fixed, numbers = ["<"], list[int](), dict[int, int]()
    fields = at = 0
    for start, codes in free:
        if start < at:
            raise ValueError("vectors that lie over each other")
        form.append(f"{start - at}s{codes}")
        fixed.append(fields)
        fields += 1
        at = start + struct.calcsize("<" + codes)
        if not codes.endswith("x"):
            numbers.update({start + 8 * i: fields + i for i in range(len(codes))})
            fields += len(codes)
    form.append(f"{length - at}s")
    fixed.append(fields)
    return "".join(form), fixed, numbers


class ReplyCache:
    """The patterns of the answers of one connection, by length."""

    _KEPT = 1024

    def __init__(self) -> None:
        self._by_length: dict[int, ReplyTemplate | None] = {}

    def read(self, data: bytes) -> TraceColumns | None:
        """Return the columns of an answer that is like an earlier one, else None."""
        pattern = self._by_length.get(len(data))
        return pattern.read(data) if pattern is not None else None

    def note(self, found: TraceColumns) -> None:
        """Take note of an answer that was read and checked; the second one of its length makes a pattern."""
        frame = found.frame
        if (
            len(found.traces) != 1
            or frame.texts
            or len(frame.addresses)
            or len(frame.priors)
            or len(frame.positions)
            or frame.steps
        ):
            return
        length = len(found.message)
        if length not in self._by_length:
            if len(self._by_length) >= self._KEPT:
                self._by_length.clear()
            self._by_length[length] = None
            return
        try:
            self._by_length[length] = ReplyTemplate(found)
        except ValueError:  # no harm: it was read as it is
            self._by_length[length] = None
