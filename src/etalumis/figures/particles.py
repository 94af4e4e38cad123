# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The true and the inferred particles of an observation, and where they cross the calorimeter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from etalumis.typing import FloatArray

FINAL_STATE = "final_state"
"""Tag (particle, 5) of the simulator: PDG number, E, px, py, pz in GeV."""
_NAMES = {
    11: "e⁻", -11: "e⁺", 12: "$\\nu_e$", -12: "$\\bar{\\nu}_e$", 13: "μ⁻", -13: "μ⁺", 14: "$\\nu_\\mu$",
    -14: "$\\bar{\\nu}_\\mu$", 16: "$\\nu_\\tau$", -16: "$\\bar{\\nu}_\\tau$", 22: "$\\gamma$", 111: "π⁰", 211: "π⁺",
    -211: "π⁻", 321: "K⁺", -321: "K⁻", 310: "$K_S$", 130: "$K_L$", 221: "η",
}  # fmt: skip
_NEUTRINOS = {12, 14, 16}
MOMENTUM = "momentum"
"""Value (draw, 3) of a posterior: px, py and pz of the decaying particle, in GeV."""
VISIBLE = "visible_at_rest"
"""Value (draw, 4 kinds) of a posterior: E, px, py, pz in GeV in the rest frame of the decaying particle, summed over
the visible particles of each kind."""
_TAU_MASS_GEV = 1.777
"""As in Sherpa."""
_MIN_ENERGY_GEV = 0.5
"""Energy below which visible particles are not shown."""


@dataclass(frozen=True)
class Particle:
    """A stable particle of the final state.

    Attributes
    ----------
    pdg : int
        Number of the Particle Data Group.
    energy : float
        In GeV.
    slope : (float, float)
        px / pz and py / pz.
    """

    pdg: int
    energy: float
    slope: tuple[float, float]

    @property
    def visible(self) -> bool:
        """Whether it leaves energy in the calorimeter."""
        return abs(self.pdg) not in _NEUTRINOS

    @property
    def name(self) -> str:
        """Its symbol, for Matplotlib."""
        return _NAMES.get(self.pdg, f"PDG {self.pdg}")

    @property
    def label(self) -> str:
        """Symbol and energy."""
        return f"{self.name} {self.energy:.1f} GeV"

    def at(self, distance_cm: FloatArray | float) -> tuple[FloatArray, FloatArray]:
        """Return x and y in cm at a distance along z from the decay, which is at the origin."""
        distance = np.asarray(distance_cm, dtype=float)
        return self.slope[0] * distance, self.slope[1] * distance


def of_truth(truth: Mapping[str, FloatArray]) -> list[Particle]:
    """Return the particles that fly forwards, the most energetic first; empty if the truth does not list them."""
    table = np.asarray(truth.get(FINAL_STATE, np.empty((0, 5))), dtype=float)
    if table.ndim != 2 or table.shape[1] != 5:
        return []
    found = [Particle(int(pdg), energy, (px / pz, py / pz)) for pdg, energy, px, py, pz in table.tolist() if pz > 0]
    return sorted(found, key=lambda particle: -particle.energy)


def flights(values: Mapping[str, FloatArray], distance_cm: float) -> FloatArray:
    """Return where the decaying particle would have hit the face at a distance: x and y in cm, (draw, 2).

    NaN if it flies backwards, or if the posterior does not have its momentum.
    """
    return _crossings(np.asarray(values[MOMENTUM], dtype=float), distance_cm)


def visible_flights(values: Mapping[str, FloatArray], distance_cm: float) -> FloatArray:
    """Return where the visible particles of each kind hit the face at a distance: x and y in cm, (draw, kind, 2).

    Their momentum is that in the rest frame after a boost by the momentum of the decaying particle, a tau. NaN for a
    kind without energy in a draw, or that flies backwards; no kinds if the posterior does not have the values.
    """
    momentum = np.asarray(values[MOMENTUM], dtype=float)
    at_rest = np.asarray(values.get(VISIBLE, np.empty((len(momentum), 0))), dtype=float).reshape(len(momentum), -1, 4)
    gamma_beta = momentum[:, None] / _TAU_MASS_GEV
    gamma = np.sqrt(1.0 + np.sum(gamma_beta**2, axis=-1, keepdims=True))
    energy, inside = at_rest[..., :1], at_rest[..., 1:]
    along = np.sum(gamma_beta * inside, axis=-1, keepdims=True)
    boosted = inside + (along / (gamma + 1.0) + energy) * gamma_beta
    return np.where(gamma * energy + along > _MIN_ENERGY_GEV, _crossings(boosted, distance_cm), np.nan)


def _crossings(momentum: FloatArray, distance_cm: float) -> FloatArray:
    """Return x and y, (..., 2), of lines from the origin along (..., 3) at a distance along z; NaN backwards."""
    forwards = momentum[..., 2:] > 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(forwards, distance_cm * momentum[..., :2] / momentum[..., 2:], np.nan)
