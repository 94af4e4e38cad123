// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: GPL-3.0-or-later

#ifndef ETALUMIS_SHERPA_TAU_CALORIMETER_HPP
#define ETALUMIS_SHERPA_TAU_CALORIMETER_HPP

#include <array>
#include <cstddef>
#include <vector>

#include "particle.hpp"

namespace sherpa_tau {

// Mean depth of a shower = at_one_gev + per_log_energy * ln(E / GeV), measured from the front face. All in cm.
struct ShowerShape {
  double depth_at_one_gev_cm = 0.0;
  double depth_per_log_energy_cm = 0.0;
  double depth_sigma_cm = 1.0;
  double width_cm = 1.0;  // transverse standard deviation
  double response = 1.0;  // energy seen / energy of the particle
};

struct CalorimeterConfig {
  double distance_cm = 0.0;  // from the decay to the front face
  double cell_cm = 1.0;
  double layer_cm = 1.0;
  ShowerShape electromagnetic;
  ShowerShape hadronic;
  double mip_gev_per_layer = 0.0;
  double mip_width_cm = 1.0;
  double mip_response = 1.0;
  double cut_gev = 0.0;  // voxels with less energy are set to zero
};

// A block of 20 x 35 x 35 voxels (depth, y, x) with its face perpendicular to z and centred on the z axis. A particle
// flies straight from the origin (no magnetic field; decay lengths of millimetres are neglected) and deposits its
// energy as a trivariate normal around its axis: in depth, a normal truncated at the front face; transversely, a round
// normal centred on the axis in each layer. Each voxel holds the exact integral over its layer and cell. Energy outside
// the block is lost.
class Calorimeter {
 public:
  static constexpr std::size_t depth = 20;
  static constexpr std::size_t side = 35;
  static constexpr std::size_t voxels = depth * side * side;

  explicit Calorimeter(const CalorimeterConfig& config) : config_(config) {}

  // Deposited energy in GeV, row-major (depth, y, x).
  std::vector<double> deposit(const std::vector<Particle>& particles) const;

 private:
  using Profile = std::array<double, depth>;

  void add(const Particle& particle, std::vector<double>& image) const;
  Profile shower_profile(const ShowerShape& shape, double energy_gev) const;
  Profile track_profile(double energy_gev) const;

  CalorimeterConfig config_;
};

}  // namespace sherpa_tau

#endif
