// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: GPL-3.0-or-later

#ifndef ETALUMIS_SHERPA_TAU_PARTICLE_HPP
#define ETALUMIS_SHERPA_TAU_PARTICLE_HPP

#include <array>
#include <vector>

namespace sherpa_tau {

// A particle: its PDG Monte Carlo number and its four-momentum in GeV (c = 1).
struct Particle {
  long pdg = 0;
  double energy = 0.0;
  double px = 0.0;
  double py = 0.0;
  double pz = 0.0;
};

using Momentum = std::array<double, 3>;

// Boosts particles from the rest frame of a decayer of mass `mass_gev` to the frame where it has the given momentum.
std::vector<Particle> boosted(const std::vector<Particle>& at_rest, double mass_gev, const Momentum& momentum_gev);

bool is_neutrino(long pdg) noexcept;

// How a particle appears in the calorimeter.
enum class Kind { electromagnetic, hadronic, minimum_ionising, invisible };

Kind kind_of(long pdg) noexcept;

// Energy and momentum (E, px, py, pz) in GeV, summed over the particles of each visible kind, in the order of `Kind`.
std::vector<double> visible_sums(const std::vector<Particle>& particles);

}  // namespace sherpa_tau

#endif
