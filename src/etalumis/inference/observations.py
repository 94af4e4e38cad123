# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Observed values: which statement gets which, and whether they fit the model."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from etalumis.distributions import ArrayDistribution
from etalumis.errors import InferenceError
from etalumis.typing import Array


class Observations:
    """Observed values by the name of the observe statement, checked against what the model observes.

    Parameters
    ----------
    values
        Name -> observed value, of the shape of the statement's distribution. A value of one element fits any
        distribution of one element, since peers send scalars as shape () or (1,).
    """

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._values = {name: np.asarray(value, dtype=np.float64) for name, value in (values or {}).items()}
        self._seen: dict[str, None] = {}
        self._fitted: dict[tuple[str, tuple[int, ...]], Array] = {}
        for name, value in self._values.items():
            if not np.all(np.isfinite(value)):
                raise InferenceError(
                    f"observation {name!r}: {int(np.sum(~np.isfinite(value)))} of {value.size} elements are not "
                    "finite; expected finite numbers. Mend the observation file."
                )

    def __bool__(self) -> bool:
        return bool(self._values)

    def __getitem__(self, name: str) -> Array:
        return self._values[name]

    @property
    def names(self) -> list[str]:
        """Names of the observed values."""
        return list(self._values)

    @property
    def values(self) -> dict[str, Array]:
        """Observed values by name; always the same object."""
        return self._values

    def saw(self, name: str) -> None:
        """Take note that the model observes `name`."""
        self._seen[name] = None

    def value(self, name: str, distribution: ArrayDistribution, given: Array | None) -> Array | None:
        """Return the value to condition the statement on: the user's, else the model's own, else None.

        Raises
        ------
        InferenceError
            Where the observed value has another shape than the statement's distribution.
        """
        self._seen[name] = None
        if name not in self._values:
            return given
        key = (name, distribution.shape)
        fitted = self._fitted.get(key)
        if fitted is None:
            fitted = self._fitted[key] = self._fit(name, distribution.shape)
        return fitted

    def _fit(self, name: str, shape: tuple[int, ...]) -> Array:
        value = self._values[name]
        if value.shape == shape:
            return value
        if value.size == 1 and int(np.prod(shape)) == 1:
            return value.reshape(shape)
        raise InferenceError(
            f"observation {name!r} has shape {value.shape}; the model observes shape {shape} under this name. "
            "Give an observation made with the same simulator configuration."
        )

    def check_names(self) -> None:
        """Check, after a run, that the model observes every name that values are given for.

        Raises
        ------
        InferenceError
            Naming the observe statements of the run, the nearest name first: a mistyped name would otherwise leave
            the posterior equal to the prior without a word.
        """
        for name in self._values:
            if name not in self._seen:
                raise InferenceError(
                    f"the model does not observe {name!r}; it observes {_listed(name, self._seen)}. "
                    "Give the observation under one of these names."
                )


def _listed(wanted: str, names: Iterable[str]) -> str:
    ranked = sorted(
        (name for name in names if name), key=lambda name: -difflib.SequenceMatcher(None, wanted, name).ratio()
    )
    return ", ".join(repr(name) for name in ranked) if ranked else "nothing that has a name"
