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

// Sherpa could not be set up, or did not produce an event.
class GeneratorError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// What Sherpa made of one decayer at rest.
struct Decay {
  long decayer = 0;  // PDG number
  double mass_gev = 0.0;
  std::size_t channel = 0;          // index among the decayer's open channels
  std::vector<Particle> particles;  // stable, in Sherpa's order, in the rest frame
};

// Sherpa in the mode `EVENT_TYPE: HadronDecay`, its draws made by ppx::sample. One per process: Sherpa is global state.
class Generator {
 public:
  // Reads the run card in a scratch directory that is gone again when this returns. Throws GeneratorError.
  explicit Generator(const std::filesystem::path& run_card);
  Generator(const Generator&) = delete;
  Generator& operator=(const Generator&) = delete;

  // One event; depends on its draws alone, not on the events before it. Throws GeneratorError.
  Decay decay();

 private:
  SilencedOutput output_;
  // Never destroyed: its destructor ends the program where the set-up failed, and otherwise writes reports to a
  // directory that is gone.
  SHERPA::Sherpa* sherpa_ = nullptr;
};

}  // namespace sherpa_tau

#endif
