// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Tests the moments of single showers against their definition, the containment, and the boost.

#include "calorimeter.hpp"

#include <chrono>
#include <cmath>
#include <iostream>
#include <numeric>
#include <string>

#include "check.hpp"
#include "particle.hpp"

namespace {

using sherpa_tau::Calorimeter;
using sherpa_tau::Particle;
using sherpa_tau::tests::check;

constexpr double distance_cm = 250.0;
constexpr double cell_cm = 2.0;
constexpr double layer_cm = 5.0;

sherpa_tau::CalorimeterConfig config() {
  sherpa_tau::CalorimeterConfig c;
  c.distance_cm = distance_cm;
  c.cell_cm = cell_cm;
  c.layer_cm = layer_cm;
  c.electromagnetic = {10.2, 1.76, 7.1, 2.0, 1.0};
  c.hadronic = {25.0, 4.2, 16.0, 3.0, 0.8};
  c.mip_gev_per_layer = 0.057;
  c.mip_width_cm = 2.0;
  return c;
}

struct Moments {
  double energy = 0.0;
  double mean[3] = {};      // cm: depth behind the face, y, x
  double variance[3] = {};  // cm^2
};

Moments moments(const std::vector<double>& image) {
  Moments m;
  double square[3] = {};
  for (std::size_t i = 0; i < image.size(); ++i) {
    const auto layer = static_cast<double>(i / (Calorimeter::side * Calorimeter::side));
    const auto row = static_cast<double>(i / Calorimeter::side % Calorimeter::side);
    const auto column = static_cast<double>(i % Calorimeter::side);
    const double at[3] = {(layer + 0.5) * layer_cm, (row - 17.0) * cell_cm, (column - 17.0) * cell_cm};
    m.energy += image[i];
    for (int axis = 0; axis < 3; ++axis) {
      m.mean[axis] += image[i] * at[axis];
      square[axis] += image[i] * at[axis] * at[axis];
    }
  }
  for (int axis = 0; axis < 3; ++axis) {
    m.mean[axis] /= m.energy;
    m.variance[axis] = square[axis] / m.energy - m.mean[axis] * m.mean[axis];
  }
  return m;
}

void near(double found, double expected, double tolerance, const std::string& what) {
  check(std::abs(found - expected) <= tolerance,
        what + ": expected " + std::to_string(expected) + ", found " + std::to_string(found));
}

void showers() {
  const Calorimeter calorimeter(config());
  const double slope_x = 0.05;
  const double slope_y = -0.02;
  const Particle pion{211, 20.0, 20.0 * slope_x, 20.0 * slope_y, 20.0};
  const Moments hadronic = moments(calorimeter.deposit({pion}));
  const double mean = 25.0 + 4.2 * std::log(20.0);
  near(hadronic.energy, 0.8 * 20.0, 0.01, "energy of a contained hadronic shower");
  // The truncation at the front face (0.7 %) slightly shifts the mean and reduces the spread.
  near(hadronic.mean[0], mean, 0.5, "depth");
  near(std::sqrt(hadronic.variance[0]), 16.0, 0.7, "spread in depth");
  near(hadronic.mean[2], slope_x * (distance_cm + hadronic.mean[0]), 0.02, "x");
  near(hadronic.mean[1], slope_y * (distance_cm + hadronic.mean[0]), 0.02, "y");
  // Transverse: the width, the spread of the axis over the depth, and the variance of a cell.
  const double width = 9.0 + slope_x * slope_x * hadronic.variance[0] + cell_cm * cell_cm / 12.0;
  near(hadronic.variance[2], width, 0.01 * width, "transverse variance");

  const Moments photon = moments(calorimeter.deposit({{22, 20.0, 0.0, 0.0, 20.0}}));
  near(photon.energy, 20.0, 0.01, "energy of an electromagnetic shower");
  check(photon.mean[0] < hadronic.mean[0], "an electromagnetic shower starts first");
  const Moments soft = moments(calorimeter.deposit({{22, 2.0, 0.0, 0.0, 2.0}}));
  near(photon.mean[0] - soft.mean[0], 1.76 * std::log(10.0), 0.6, "depth grows with the logarithm of the energy");
}

void tracks_and_the_unseen() {
  const Calorimeter calorimeter(config());
  near(moments(calorimeter.deposit({{13, 20.0, 0.0, 0.0, 20.0}})).energy, 20 * 0.057, 1e-5, "a muon passes through");
  near(moments(calorimeter.deposit({{-13, 0.3, 0.0, 0.0, 0.28}})).energy, 0.3, 1e-5, "a soft muon ends inside");
  const std::vector<double> nothing(Calorimeter::voxels, 0.0);
  for (const long pdg : {12L, -14L, 16L}) {
    check(calorimeter.deposit({{pdg, 20.0, 0.0, 0.0, 20.0}}) == nothing, "a neutrino is not seen");
  }
  check(calorimeter.deposit({{22, 1.0, 0.0, 0.0, -1.0}}) == nothing, "a particle that flies back is not seen");
  check(calorimeter.deposit({{22, 1.0, 0.9, 0.0, 0.4}}) == nothing, "a particle that misses the block is not seen");

  sherpa_tau::CalorimeterConfig with_cut = config();
  with_cut.cut_gev = 0.01;
  const Particle electron{11, 10.0, 0.0, 0.0, 10.0};
  const std::vector<double> whole = calorimeter.deposit({electron});
  const std::vector<double> cut = Calorimeter(with_cut).deposit({electron});
  for (std::size_t i = 0; i < whole.size(); ++i) {
    check(cut[i] == (whole[i] < 0.01 ? 0.0 : whole[i]), "the cut sets small deposits to zero and no others");
  }
}

void boost() {
  const double mass = 1.777;
  const std::vector<Particle> pair{{211, 0.9, 0.1, 0.2, 0.3}, {16, mass - 0.9, -0.1, -0.2, -0.3}};
  const auto moved = sherpa_tau::boosted(pair, mass, {1.0, -2.0, 45.0});
  near(moved[0].px + moved[1].px, 1.0, 1e-12, "px");
  near(moved[0].py + moved[1].py, -2.0, 1e-12, "py");
  near(moved[0].pz + moved[1].pz, 45.0, 1e-11, "pz");
  near(moved[0].energy + moved[1].energy, std::sqrt(mass * mass + 1.0 + 4.0 + 45.0 * 45.0), 1e-11, "energy");
  const auto square = [](const Particle& p) { return p.energy * p.energy - p.px * p.px - p.py * p.py - p.pz * p.pz; };
  near(square(moved[0]), square(pair[0]), 1e-9, "invariant mass");
}

// Not a benchmark: fails only if the calorimeter alone would slow down the simulator.
void speed() {
  const Calorimeter calorimeter(config());
  const std::vector<Particle> event{{211, 9.0, 0.1, 0.2, 9.0}, {-211, 8.0, 0.3, 0.2, 8.0}, {22, 7.0, 0.2, 0.1, 7.0},
                                    {22, 6.0, -0.2, 0.1, 6.0}, {22, 5.0, 0.1, -0.2, 5.0},  {22, 4.0, 0.0, 0.1, 4.0}};
  const auto start = std::chrono::steady_clock::now();
  constexpr int events = 500;
  double sum = 0.0;
  for (int i = 0; i < events; ++i) sum += calorimeter.deposit(event)[0];
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  std::cout << "calorimeter: " << took.count() / events << " ms an event (" << sum << ")\n";
  check(took.count() / events < 3.0, "an event of six particles takes longer than 3 ms");
}

}  // namespace

int main() {
  showers();
  tracks_and_the_unseen();
  boost();
  speed();
  return sherpa_tau::tests::failures() > 0 ? 1 : 0;
}
