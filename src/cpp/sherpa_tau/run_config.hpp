// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: GPL-3.0-or-later

#ifndef ETALUMIS_SHERPA_TAU_RUN_CONFIG_HPP
#define ETALUMIS_SHERPA_TAU_RUN_CONFIG_HPP

#include <filesystem>
#include <stdexcept>

#include "calorimeter.hpp"

namespace sherpa_tau {

// An error in a configuration file; the message names file, line or key, what was expected and what was found.
class ConfigError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Range {
  double low = 0.0;
  double high = 0.0;
};

struct RunConfig {
  std::filesystem::path run_card;
  std::filesystem::path sites;
  Range px_gev;
  Range py_gev;
  Range pz_gev;
  double noise_gev = 0.0;
  CalorimeterConfig calorimeter;
};

// Reads lines `key value...`; `#` starts a comment. Every key is required exactly once. Relative paths are relative to
// the folder of the file. Throws ConfigError.
RunConfig read_config(const std::filesystem::path& file);

}  // namespace sherpa_tau

#endif
