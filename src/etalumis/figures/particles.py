# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
"""The true particles of an observation, and where they cross the calorimeter."""

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
