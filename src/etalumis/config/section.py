# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""What the sections of a configuration share."""

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, field_validator

Item = TypeVar("Item", str, int)


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if not bounds[0] < bounds[1]:
        raise ValueError(f"expected [low, high] with low < high, found [{bounds[0]:g}, {bounds[1]:g}]")
    return bounds


def distinct(items: tuple[Item, ...]) -> tuple[Item, ...]:
    """Validate a list in which no value occurs twice."""
    repeated = sorted({item for item in items if items.count(item) > 1})
    if repeated:
        raise ValueError(f"expected each value once, found {', '.join(map(str, repeated))} several times")
    return items


def increasing(items: tuple[float, ...]) -> tuple[float, ...]:
    """Validate a list of increasing numbers."""
    if list(items) != sorted(set(items)):
        raise ValueError(f"expected increasing numbers, found {', '.join(f'{item:g}' for item in items)}")
    return items


Interval = Annotated[tuple[float, float], AfterValidator(_ordered)]


class Section(BaseModel):
    """A part of the configuration: closed (an unknown key is an error) and read-only."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, serialize_by_alias=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_booleans(cls, value: Any) -> Any:
        """Refuse `true` and `yes`, which no key takes and Python would convert to the number 1."""
        if any(isinstance(item, bool) for item in (value if isinstance(value, list | tuple) else [value])):
            raise ValueError("a truth value is not a number")
        return value
