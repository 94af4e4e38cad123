// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: GPL-3.0-or-later

#ifndef ETALUMIS_SHERPA_TAU_GENERATOR_HPP
#define ETALUMIS_SHERPA_TAU_GENERATOR_HPP

#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "particle.hpp"
#include "scratch.hpp"

namespace SHERPA {
class Sherpa;
}

namespace sherpa_tau {

// Sherpa could not be initialised, or did not produce an event.
class GeneratorError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The decay of one particle at rest.
struct Decay {
  long decayer = 0;  // PDG number
  double mass_gev = 0.0;
  std::size_t channel = 0;          // index among the decayer's open channels
  std::vector<Particle> particles;  // stable, in Sherpa's order, in the rest frame
};

// Sherpa in the mode `EVENT_TYPE: HadronDecay`, with its random numbers drawn by ppx::sample. Create one per process:
// Sherpa is global state.
class Generator {
 public:
  // Reads the run card in a scratch directory, which is removed before this returns. Throws GeneratorError.
  explicit Generator(const std::filesystem::path& run_card);
  Generator(const Generator&) = delete;
  Generator& operator=(const Generator&) = delete;

  // Generates one event, which depends only on its draws and not on earlier events. Throws GeneratorError.
  Decay decay();

 private:
  SilencedOutput output_;
  // Never destroyed: after a failed initialisation its destructor ends the program, and otherwise it writes reports to
  // a directory that no longer exists.
  SHERPA::Sherpa* sherpa_ = nullptr;
};

}  // namespace sherpa_tau

#endif
