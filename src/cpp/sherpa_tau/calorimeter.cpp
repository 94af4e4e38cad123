// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: GPL-3.0-or-later

#include "calorimeter.hpp"

#include <algorithm>
#include <cmath>

namespace sherpa_tau {
namespace {

// Standard deviations beyond which a normal is neglected: 1 - erf(5 / sqrt 2) = 6e-7 of the energy.
constexpr double reach = 5.0;
// Layers with less energy are skipped; this is well below any sensible cut on a voxel.
constexpr double negligible_gev = 1e-5;

double normal_cdf(double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); }

// Integrals of a normal over consecutive cells, and the range of these cells.
struct Shares {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::array<double, Calorimeter::side> share{};
};

Shares shares(double centre_cells, double sigma_cells) {
  constexpr auto side = static_cast<double>(Calorimeter::side);
  const double low = std::clamp(std::floor(centre_cells - reach * sigma_cells), 0.0, side);
  const double high = std::clamp(std::ceil(centre_cells + reach * sigma_cells), 0.0, side);
  Shares result;
  result.begin = static_cast<std::size_t>(low);
  result.end = std::max(static_cast<std::size_t>(high), result.begin);
  double left = normal_cdf((low - centre_cells) / sigma_cells);
  for (std::size_t cell = result.begin; cell < result.end; ++cell) {
    const double right = normal_cdf((static_cast<double>(cell + 1) - centre_cells) / sigma_cells);
    result.share[cell] = right - left;
    left = right;
  }
  return result;
}

}  // namespace

std::vector<double> Calorimeter::deposit(const std::vector<Particle>& particles) const {
  std::vector<double> image(voxels, 0.0);
  for (const Particle& particle : particles) add(particle, image);
  for (double& energy : image) {
    if (energy < config_.cut_gev) energy = 0.0;
  }
  return image;
}

Calorimeter::Profile Calorimeter::shower_profile(const ShowerShape& shape, double energy_gev) const {
  // For soft particles the logarithm would place the mean in front of the face: the minimum is half a layer.
  const double mean = std::max(0.5 * config_.layer_cm,
                               shape.depth_at_one_gev_cm + shape.depth_per_log_energy_cm * std::log(energy_gev));
  const double front = normal_cdf(-mean / shape.depth_sigma_cm);
  const double seen = energy_gev * shape.response / (1.0 - front);
  Profile profile{};
  double left = front;
  for (std::size_t layer = 0; layer < depth; ++layer) {
    const double right = normal_cdf((static_cast<double>(layer + 1) * config_.layer_cm - mean) / shape.depth_sigma_cm);
    profile[layer] = seen * (right - left);
    left = right;
  }
  return profile;
}

Calorimeter::Profile Calorimeter::track_profile(double energy_gev) const {
  Profile profile{};
  double rest = energy_gev;
  for (double& energy : profile) {
    const double lost = std::min(rest, config_.mip_gev_per_layer);
    energy = lost * config_.mip_response;
    rest -= lost;
  }
  return profile;
}

void Calorimeter::add(const Particle& particle, std::vector<double>& image) const {
  const Kind kind = kind_of(particle.pdg);
  if (kind == Kind::invisible || particle.pz <= 0.0 || particle.energy <= 0.0) return;
  const bool track = kind == Kind::minimum_ionising;
  const ShowerShape& shape = kind == Kind::electromagnetic ? config_.electromagnetic : config_.hadronic;
  const Profile profile = track ? track_profile(particle.energy) : shower_profile(shape, particle.energy);
  const double sigma = (track ? config_.mip_width_cm : shape.width_cm) / config_.cell_cm;
  constexpr double middle = 0.5 * static_cast<double>(side);
  for (std::size_t layer = 0; layer < depth; ++layer) {
    if (profile[layer] < negligible_gev) continue;
    const double z = config_.distance_cm + (static_cast<double>(layer) + 0.5) * config_.layer_cm;
    const Shares along_x = shares(middle + particle.px / particle.pz * z / config_.cell_cm, sigma);
    const Shares along_y = shares(middle + particle.py / particle.pz * z / config_.cell_cm, sigma);
    for (std::size_t y = along_y.begin; y < along_y.end; ++y) {
      const double row = profile[layer] * along_y.share[y];
      double* voxel = image.data() + (layer * side + y) * side;
      for (std::size_t x = along_x.begin; x < along_x.end; ++x) voxel[x] += row * along_x.share[x];
    }
  }
}

}  // namespace sherpa_tau
