# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Shapes of tags: which ones trace files can store."""

from dataclasses import dataclass
from typing import Self

from etalumis.errors import DatasetError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class TagShape:
    """The shapes that a tag may have in the traces of one file.

    Attributes
    ----------
    ragged
        Whether a value consists of rows, whose number may vary from trace to trace.
    shape
        Shape of a row if `ragged`, else of the value.
    """

    ragged: bool
    shape: Shape

    @classmethod
    def from_first_value(cls, name: str, shape: Shape) -> Self:
        """Return what the first value of a tag allows: with two axes or more, the length of the first may vary.

        Raises
        ------
        DatasetError
            If an array of this shape cannot be stored.
        """
        found = cls(True, shape[1:]) if len(shape) >= 2 else cls(False, shape)
        if 0 in found.shape:
            raise DatasetError(
                f"tag {name!r} has shape {shape}, which cannot be stored: only the first of two or more axes may have "
                "length 0"
            )
        return found

    def require(self, name: str, shape: Shape) -> None:
        """Check that a later value of the tag has one of these shapes.

        Raises
        ------
        DatasetError
            If it has another one.
        """
        fits = len(shape) >= 2 and shape[1:] == self.shape if self.ragged else shape == self.shape
        if not fits:
            raise DatasetError(
                f"tag {name!r} has shape {shape}, but in a previous trace it was {self}; a tag whose length varies "
                "must have two or more axes, of which the first varies: (rows, columns)"
            )

    def __str__(self) -> str:
        """Return it in words."""
        if self.ragged:
            return f"an array of shape ({', '.join(['any number', *map(str, self.shape)])})"
        return f"an array of shape {self.shape}" if self.shape else "a single number"
