// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: GPL-3.0-or-later

#include "model.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

namespace sherpa_tau {
namespace {

std::vector<double> two_highest_energies(const std::vector<Particle>& particles) {
  std::vector<double> energies;
  for (const Particle& particle : particles) energies.push_back(particle.energy);
  std::partial_sort(energies.begin(), energies.begin() + 2, energies.end(), std::greater<>());
  energies.resize(2);
  return energies;
}

double missing_transverse_energy(const std::vector<Particle>& particles) {
  double x = 0.0;
  double y = 0.0;
  for (const Particle& particle : particles) {
    if (!is_neutrino(particle.pdg)) continue;
    x += particle.px;
    y += particle.py;
  }
  return std::hypot(x, y);
}

ppx::Tensor table(const std::vector<Particle>& particles) {
  std::vector<double> rows;
  for (const Particle& p : particles) {
    rows.insert(rows.end(), {static_cast<double>(p.pdg), p.energy, p.px, p.py, p.pz});
  }
  return {std::move(rows), {static_cast<std::int32_t>(particles.size()), 5}};
}

}  // namespace

TauDecay::TauDecay(const RunConfig& config, bool calorimeter) : config_(config), generator_(config.run_card) {
  if (calorimeter) calorimeter_.emplace(config.calorimeter);
}

// A member, not a local function: a frame without an exported symbol is shown by the program's file name.
double TauDecay::draw(std::string_view name, const Range& range) const {
  return ppx::sample(ppx::Uniform{range.low, range.high}, true, name);
}

ppx::Tensor TauDecay::forward() {
  const Decay decay = generator_.decay();
  // A network can see this tag when it proposes the momentum: a boost is easier to learn than a decay (network.tags).
  ppx::tag("visible_at_rest", {visible_sums(decay.particles), {4 * static_cast<std::int32_t>(Kind::invisible)}});
  const Momentum momentum{draw("px", config_.px_gev), draw("py", config_.py_gev), draw("pz", config_.pz_gev)};
  const std::vector<Particle> particles = boosted(decay.particles, decay.mass_gev, momentum);

  if (calorimeter_) {
    constexpr auto depth = static_cast<std::int32_t>(Calorimeter::depth);
    constexpr auto side = static_cast<std::int32_t>(Calorimeter::side);
    ppx::Tensor expected(calorimeter_->deposit(particles), {depth, side, side});
    ppx::observe(ppx::Normal{std::move(expected), config_.noise_gev}, "calorimeter");
  }

  const ppx::Tensor channel(static_cast<double>(decay.channel));
  ppx::tag("momentum", {{momentum.begin(), momentum.end()}, {3}});
  ppx::tag("channel", channel);
  ppx::tag("energies", {two_highest_energies(particles), {2}});
  ppx::tag("missing_et", missing_transverse_energy(particles));
  ppx::tag("final_state", table(particles));
  return channel;
}

}  // namespace sherpa_tau
