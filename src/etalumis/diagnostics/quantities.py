# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The scalar quantities of a posterior that are diagnosed and plotted, with their labels.

The tau decay has the quantities of the paper's Figure 8, from the simulator's tags. Any other model has one quantity
per scalar value and per component of a short vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from etalumis.typing import FloatArray

MAX_COMPONENTS = 8  # longer vectors are left out


@dataclass(frozen=True)
class Quantity:
    """One scalar per draw.

    Attributes
    ----------
    key : str
        Name in diagnostics.json.
    source : str
        Name in ``Posterior.values`` and ``Posterior.truth``.
    component : int or None
        Index into a vector; None for a scalar.
    label : str
        Axis label for Matplotlib, without the unit.
    unit : str
        Empty for a pure number.
    categorical : bool
        Whether the values are codes without an order, which have probabilities instead of a mean.
    span : (float, float) or None
        Range of the axis, if the prior defines one.
    """

    key: str
    source: str
    component: int | None = None
    label: str = ""
    unit: str = ""
    categorical: bool = False
    span: tuple[float, float] | None = None

    @property
    def title(self) -> str:
        """The label, or the key as Matplotlib shows it: a dollar sign in a name does not begin a formula."""
        return self.label or self.key.replace("$", r"\$")

    @property
    def axis_label(self) -> str:
        """The title with the unit in brackets."""
        return f"{self.title} [{self.unit}]" if self.unit else self.title

    def of(self, values: Mapping[str, FloatArray]) -> FloatArray | None:
        """Return the values, array (draw,), or a 0-d array for the truth; None if the source is missing."""
        if self.source not in values:
            return None
        array = np.asarray(values[self.source], dtype=float)
        if self.component is None:
            return array
        if array.ndim == 0 or array.shape[-1] <= self.component:
            return None
        return np.asarray(array[..., self.component])

    def truth_in(self, truth: Mapping[str, FloatArray]) -> float:
        """Return the true value; ``nan`` if it is not known."""
        value = self.of(truth)
        return float(value.ravel()[0]) if value is not None and value.size == 1 else float("nan")


TAU_DECAY = (
    Quantity("px", "momentum", 0, r"$p_x$", "GeV"),
    Quantity("py", "momentum", 1, r"$p_y$", "GeV"),
    Quantity("pz", "momentum", 2, r"$p_z$", "GeV"),
    Quantity("energy_1", "energies", 0, r"$E_1$", "GeV"),
    Quantity("energy_2", "energies", 1, r"$E_2$", "GeV"),
    Quantity("channel", "channel", None, r"$\tau$ decay channel", categorical=True),
    Quantity("missing_et", "missing_et", None, r"missing $E_T$", "GeV"),
)


def is_tau_decay(values: Mapping[str, FloatArray]) -> bool:
    """Return whether the posterior has all quantities of the paper's Figure 8."""
    return all(quantity.of(values) is not None for quantity in TAU_DECAY)


def with_prior_ranges(
    quantities: tuple[Quantity, ...], momentum_gev: Mapping[str, tuple[float, float]]
) -> tuple[Quantity, ...]:
    """Return the quantities with the ranges of the uniform priors of p_x, p_y, p_z (GeV) as axis ranges."""
    return tuple(
        replace(q, span=(float(momentum_gev[q.key][0]), float(momentum_gev[q.key][1]))) if q.key in momentum_gev else q
        for q in quantities
    )


def quantities_of(values: Mapping[str, FloatArray]) -> tuple[Quantity, ...]:
    """Return the quantities of a posterior, in a fixed order."""
    if is_tau_decay(values):
        return TAU_DECAY
    found: list[Quantity] = []
    for name in sorted(values):
        shape = np.shape(values[name])[1:]
        if shape == ():
            found.append(Quantity(name, name))
        elif len(shape) == 1 and shape[0] <= MAX_COMPONENTS:
            found += [Quantity(f"{name}[{i}]", name, i) for i in range(shape[0])]
    return tuple(found)
