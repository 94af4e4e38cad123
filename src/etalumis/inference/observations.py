# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""Observed values by observe statement, and whether they fit the model."""

import difflib
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from etalumis.counting import counted
from etalumis.distributions import ArrayDistribution
from etalumis.errors import InferenceError
from etalumis.names import quoted
from etalumis.trace import Trace
from etalumis.typing import Array

MAX_MAGNITUDE = 1e150
"""Largest absolute value of an observation; the square of a larger one may overflow."""
NAME_CHECK_RUNS = 100
"""Number of runs after which a name that no run observed is reported; only some runs may reach a statement."""

logger = logging.getLogger(__name__)


class Observations:
    """Observed values by the name of the observe statement, checked against what the model observes.

    Parameters
    ----------
    values
        Name -> observed value, of the shape of the statement's distribution. A value of one element fits any
        distribution of one element, since peers send scalars with shape () or (1,). If a run observes a name several
        times, the value conditions every one of these statements. A statement whose name is absent, or has the value
        None, keeps the value that the model itself supplies. If the model supplies none, None leaves the statement out:
        the posterior is not conditioned on it. An empty mapping leaves out all statements without a value of their own;
        if none has one, this gives the prior.

    Raises
    ------
    InferenceError
        If a value is not a finite number or an array of finite numbers.
    """

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        if not isinstance(values, Mapping | None):
            raise InferenceError(
                f"observations: expected a mapping from the name of an observe statement to its value, found {values!r}"
            )
        given = dict(values or {})
        self._values = {name: as_observed(name, value) for name, value in given.items() if value is not None}
        self._left_out = [name for name, value in given.items() if value is None]
        self._seen: dict[str, None] = {}
        self._names_open = bool(given)
        self._runs_checked = 0

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

    @property
    def seen(self) -> list[str]:
        """Names that the runs so far observed."""
        return list(self._seen)

    @property
    def names_open(self) -> bool:
        """Whether some name was not yet observed by any run, and may still be."""
        return self._names_open

    def record_names(self, names: Iterable[str]) -> None:
        """Record that the model observes `names`."""
        self._seen.update(dict.fromkeys(names))

    def value(self, name: str, distribution: ArrayDistribution, given: Array | None) -> Array | None:
        """Return the value to condition a statement on: the user's, else the model's own, else None.

        Raises
        ------
        InferenceError
            If the observed value has another shape than the statement's distribution.
        """
        if name not in self._values:
            return given
        value, shape = self._values[name], distribution.shape
        if value.shape == shape:
            return value
        if value.size == 1 and int(np.prod(shape)) == 1:
            return value.reshape(shape)
        raise InferenceError(
            f"observation {name!r} has shape {value.shape}; the model observes shape {shape} under this name. "
            "Give an observation created with the same simulator configuration."
        )

    def check_names(self, *, last: bool = False) -> None:
        """Check, after a run, that the model has all observe statements named by the user.

        Only some runs may reach a statement. A name that no run observed is therefore reported once, after
        `NAME_CHECK_RUNS` runs, and refused only after the last run.

        Parameters
        ----------
        last
            Whether the last run is over.

        Raises
        ------
        InferenceError
            If it is over and no run observed a name that has a value. The message lists the names that were observed,
            the closest first. A name that is left out (None) causes a warning only.
        """
        if all(name in self._seen for name in (*self._values, *self._left_out)):
            self._names_open = False
            return
        if last:
            for name in self._unseen():
                raise self._unknown(name)
        self._runs_checked += not last
        if self._runs_checked == NAME_CHECK_RUNS or (last and self._runs_checked < NAME_CHECK_RUNS):
            self._report_unseen()
        self._names_open = bool(self._unseen()) or self._runs_checked < NAME_CHECK_RUNS

    def _report_unseen(self) -> None:
        for name in (*self._values, *self._left_out):
            if name not in self._seen:
                consequence = "it is an error if no later run does" if name in self._values else "it is to be left out"
                logger.warning(
                    "none of %s observed %s (%s); observed: %s",
                    counted(self._runs_checked, "run"), quoted(name), consequence, _listed(name, self._seen),
                )  # fmt: skip

    def _unseen(self) -> list[str]:
        return [name for name in self._values if name not in self._seen]

    def _unknown(self, name: str) -> InferenceError:
        return InferenceError(
            f"the model does not observe {quoted(name)}; it observes {_listed(name, self._seen)}. Give the observation "
            f"under one of these names. If only some runs observe {quoted(name)}, take more runs, and give the values "
            "of the other statements too, or leave them out explicitly."
        )

    def check_complete(self, trace: Trace) -> None:
        """Check that every observe statement of a run has a value or was left out explicitly.

        Raises
        ------
        InferenceError
            If a statement has none while others have: the posterior would silently ignore it.
        """
        if not self._values and not self._left_out:
            return
        for observed in trace.unscored():
            if observed.name in self._left_out:
                continue
            if not observed.name:
                raise InferenceError(
                    f"the model has an observe statement without a name at {observed.address} and without a value of "
                    f"its own; values are given for {', '.join(map(repr, self._values))}. Name the statement in the "
                    "model, and give its value."
                )
            for name in self._unseen():  # probably a misspelt name
                raise self._unknown(name)
            raise InferenceError(
                f"the model also observes {observed.name!r}, for which no value is given; values are given for "
                f"{', '.join(map(repr, self._values)) or 'none of its statements'}. Give its value too, or leave it "
                f"out explicitly (None as its value in Python, `--unconditioned {observed.name}` on the command line)."
            )


def as_observed(name: str, value: Any) -> Array:
    """Return an observed value as float64.

    Raises
    ------
    InferenceError
        If it is not a number or an array of numbers, is not finite, or is too large to have a likelihood.
    """
    try:
        found = np.asarray(value)
        if found.dtype.kind not in "biufO":
            raise TypeError("not numbers")
        array = found.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        shown = repr(value)
        raise InferenceError(
            f"observation {name!r}: expected a number or an array of numbers, found "
            f"{shown if len(shown) <= 60 else type(value).__name__} ({error})"
        ) from error
    if not np.all(np.isfinite(array)):
        raise InferenceError(
            f"observation {name!r}: {int(np.sum(~np.isfinite(array)))} of {array.size} elements are not "
            "finite; expected finite numbers. Correct the observation file."
        )
    largest = float(np.max(np.abs(array), initial=0.0))
    if largest > MAX_MAGNITUDE:
        raise InferenceError(
            f"observation {name!r}: expected magnitudes up to {MAX_MAGNITUDE:g}, whose squares a double can "
            f"hold, found {largest:g}. Check its unit, or give both the model and the observation in another one."
        )
    return array


def _listed(expected: str, names: Iterable[str]) -> str:
    ranked = sorted(
        (name for name in names if name), key=lambda name: -difflib.SequenceMatcher(None, expected, name).ratio()
    )
    return ", ".join(map(quoted, ranked)) if ranked else "nothing that has a name"
