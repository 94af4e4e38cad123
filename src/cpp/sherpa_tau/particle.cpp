// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: GPL-3.0-or-later

#include "particle.hpp"

#include <cmath>
#include <cstddef>
#include <cstdlib>

namespace sherpa_tau {

std::vector<Particle> boosted(const std::vector<Particle>& at_rest, double mass_gev, const Momentum& momentum_gev) {
  const auto [bx, by, bz] = momentum_gev;
  const double energy = std::sqrt(mass_gev * mass_gev + bx * bx + by * by + bz * bz);
  std::vector<Particle> moving;
  moving.reserve(at_rest.size());
  for (const Particle& p : at_rest) {
    // p' = p + P (E_p / m + (P.p) / (m (E + m))), E' = (E E_p + P.p) / m
    const double dot = bx * p.px + by * p.py + bz * p.pz;
    const double along = p.energy / mass_gev + dot / (mass_gev * (energy + mass_gev));
    moving.push_back(
        {p.pdg, (energy * p.energy + dot) / mass_gev, p.px + along * bx, p.py + along * by, p.pz + along * bz});
  }
  return moving;
}

bool is_neutrino(long pdg) noexcept {
  const long kind = std::labs(pdg);
  return kind == 12 || kind == 14 || kind == 16;
}

Kind kind_of(long pdg) noexcept {
  if (is_neutrino(pdg)) return Kind::invisible;
  switch (std::labs(pdg)) {
    case 11:
    case 22:
      return Kind::electromagnetic;
    case 13:
      return Kind::minimum_ionising;
    default:
      return Kind::hadronic;
  }
}

std::vector<double> visible_sums(const std::vector<Particle>& particles) {
  std::vector<double> sums(4 * static_cast<std::size_t>(Kind::invisible));
  for (const Particle& p : particles) {
    const Kind kind = kind_of(p.pdg);
    if (kind == Kind::invisible) continue;
    const std::size_t first = 4 * static_cast<std::size_t>(kind);
    sums[first] += p.energy;
    sums[first + 1] += p.px;
    sums[first + 2] += p.py;
    sums[first + 3] += p.pz;
  }
  return sums;
}

}  // namespace sherpa_tau
