# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Fast reading of answers that have the layout of an earlier one, as thousands of answers to a chain have.

If an answer with one trace introduces no new terms, and another one of the same length differs from it only in the
bytes of values and densities, then both have the same vectors at the same offsets. The checks of the first answer hold
for the second.
"""

import struct
from collections.abc import Callable
from operator import itemgetter
from typing import Any

from etalumis.ppx.messages import TraceColumns, TraceRecord
from etalumis.rows import DETAIL, ENTRY

_OBSERVE_BYTES = 32
_DENSITIES_OFFSET = 40
"""Offset of the two log densities in a trace record; the first 16 bytes are seed and number of draws."""


class ReplyTemplate:
    """The layout of an answer: the bytes that other answers must share to be read by this template.

    Log densities, seed, number of draws, the numbers in arrays, entries and their details may differ. `Vocabulary`
    checks in every answer what the entries refer to.

    Raises ValueError if vectors of the answer overlap.
    """

    def __init__(self, found: TraceColumns) -> None:
        data, starts = found.message, found.frame.starts
        record = starts.traces
        free = [(record, "QQ"), (record + _DENSITIES_OFFSET, "dd")]
        scores = [starts.observes + _OBSERVE_BYTES * i for i in range(len(found.scores))]
        free += [(place, "d") for place in scores]
        for start, size in (
            (starts.entries, starts.entry_count * ENTRY.itemsize),
            (starts.details, starts.detail_count * DETAIL.itemsize),
            (starts.data, starts.data_count * 8),
        ):
            free += [(start, f"{size}x")] if size else []
        form, fixed, numbers = _struct_format(sorted(free), len(data))
        self._unpack = struct.Struct(form).unpack
        self._fixed: Callable[[tuple[Any, ...]], Any] = itemgetter(*fixed)
        places = [record, record + 8, record + _DENSITIES_OFFSET, record + _DENSITIES_OFFSET + 8, *scores]
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
        self._trace: tuple[Any, ...] = found.traces[0][2:8]  # the constant fields of the record

    def read(self, data: bytes) -> TraceColumns | None:
        """Return the columns of an answer of the same length; None if its layout differs."""
        fields = self._unpack(data)
        if self._fixed(fields) != self._expected:
            return None
        seed, draws, log_prior, log_ratio, *scores = self._numbers(fields)
        trace = TraceRecord._make((seed, draws, *self._trace, log_prior, log_ratio))
        return TraceColumns(data, self._frame, [trace], scores)


def _struct_format(free: list[tuple[int, str]], length: int) -> tuple[str, list[int], dict[int, int]]:
    """Return the struct format of the message, the indices of its constant fields, and those of numbers by offset.

    `free` has the offsets of the fields that may differ, in order, and their format codes.
    """
    form, fixed, numbers = ["<"], list[int](), dict[int, int]()
    fields = at = 0
    for start, codes in free:
        if start < at:
            raise ValueError("overlapping vectors")
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
    """The templates of the answers of one connection, by length."""

    _MAX_TEMPLATES = 1024

    def __init__(self) -> None:
        self._by_length: dict[int, ReplyTemplate | None] = {}

    def read(self, data: bytes) -> TraceColumns | None:
        """Return the columns of an answer if it has the layout of an earlier one, else None."""
        template = self._by_length.get(len(data))
        return template.read(data) if template is not None else None

    def add(self, found: TraceColumns) -> None:
        """Store the layout of an answer that was read and checked; the second one of a length becomes a template."""
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
            if len(self._by_length) >= self._MAX_TEMPLATES:
                self._by_length.clear()
            self._by_length[length] = None
            return
        try:
            self._by_length[length] = ReplyTemplate(found)
        except ValueError:  # answers like this one are read without a template
            self._by_length[length] = None
