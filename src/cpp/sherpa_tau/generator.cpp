// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: GPL-3.0-or-later

#include "generator.hpp"

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <regex>
#include <sstream>
#include <utility>

#include "ATOOLS/Org/Exception.H"
#include "ATOOLS/Phys/Blob_List.H"
#include "ATOOLS/Phys/Particle.H"
#include "SHERPA/Main/Sherpa.H"
#include "scratch.hpp"
#include "steering.hpp"

namespace sherpa_tau {
namespace {

namespace fs = std::filesystem;

constexpr long tau = 15;

// Settings that the program adds to the run card: its random number generator, and no output of progress and events.
constexpr std::pair<const char*, const char*> own_settings[] = {
    {"EXTERNAL_RNG", steering::generator_name},
    {"OUTPUT", "1"},
    {"EVT_OUTPUT", "0"},
    {"EVENT_DISPLAY_INTERVAL", "1000000000"},
    {"WRITE_REFERENCES_FILE", "0"},
};

// Blocks signals while Sherpa initialises, and restores the signal handlers that Sherpa replaces by its own. Pending
// signals are then delivered to the original handlers.
class SignalGuard {
 public:
  SignalGuard() {
    sigset_t blocked;
    sigemptyset(&blocked);
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&blocked, number);
    sigprocmask(SIG_BLOCK, &blocked, &mask_);
    for (std::size_t i = 0; i < count; ++i) sigaction(numbers[i], nullptr, &actions_[i]);
  }
  ~SignalGuard() {
    for (std::size_t i = 0; i < count; ++i) sigaction(numbers[i], &actions_[i], nullptr);
    sigprocmask(SIG_SETMASK, &mask_, nullptr);
  }
  SignalGuard(const SignalGuard&) = delete;
  SignalGuard& operator=(const SignalGuard&) = delete;

 private:
  static constexpr int numbers[] = {SIGINT, SIGTERM, SIGSEGV, SIGABRT, SIGFPE, SIGBUS, SIGHUP, SIGXCPU, SIGUSR1};
  static constexpr std::size_t count = sizeof(numbers) / sizeof(numbers[0]);
  sigset_t mask_ = {};
  struct sigaction actions_[count] = {};
};

std::string contents(const fs::path& file) {
  std::ifstream stream(file);
  std::ostringstream text;
  text << stream.rdbuf();
  if (!stream) throw GeneratorError(file.string() + ": the run card cannot be read");
  return text.str();
}

void write_run_card(const fs::path& source, const fs::path& target) {
  const std::string card = contents(source);
  std::ofstream stream(target);
  stream << card << '\n';
  for (const auto& [key, value] : own_settings) {
    if (std::regex_search(card, std::regex("(^|\n)" + std::string(key) + " *:"))) {
      throw GeneratorError(source.string() + ": the run card sets " + key + "; remove it, this program sets it");
    }
    stream << key << ": " << value << '\n';
  }
  stream.close();
  if (!stream) throw GeneratorError(target.string() + ": cannot be written");
}

Particle particle(const ATOOLS::Particle& source) {
  const ATOOLS::Vec4D& p = source.Momentum();
  return {static_cast<long>(source.Flav()), p[0], p[1], p[2], p[3]};
}

}  // namespace

Generator::Generator(const fs::path& run_card) {
  const SignalGuard signals;  // first: a pending signal is delivered after the scratch directory is removed
  const ScratchDirectory scratch;
  write_run_card(run_card, scratch.path() / "Sherpa.yaml");
  std::string problem;
  try {
    const SilencedOutput::Section silent(output_);
    std::string program = "sherpa_tau";
    char* arguments[] = {program.data(), nullptr};
    sherpa_ = new SHERPA::Sherpa(1, arguments);
    if (sherpa_->InitializeTheRun() && sherpa_->InitializeTheEventHandler()) return;
    problem = "no reason given";
  } catch (const ATOOLS::Exception& error) {
    std::ostringstream text;
    text << error;
    problem = text.str();
  } catch (const std::exception& error) {
    problem = error.what();
  }
  throw GeneratorError(run_card.string() + ": Sherpa did not start: " + problem + "\n" + output_.tail(2000));
}

Decay Generator::decay() {
  steering::begin_event(tau);
  bool generated = false;
  std::ostringstream problem;
  try {
    const SilencedOutput::Section silent(output_);
    generated = sherpa_->GenerateOneEvent();
  } catch (const ATOOLS::Exception& error) {
    problem << ": " << error;
  }
  steering::rethrow_failure();
  // Not retried: the draws of the failed event would remain in the trace without an effect on the result.
  if (!generated) throw GeneratorError("Sherpa did not complete an event" + problem.str());
  const auto channel = steering::chosen_channel();
  if (!channel) throw GeneratorError("Sherpa chose no decay channel of the tau; does the run card say DECAYER: 15?");
  Decay decay;
  decay.channel = *channel;
  for (const ATOOLS::Blob* blob : sherpa_->GetBlobList()) {
    for (std::size_t i = 0; i < static_cast<std::size_t>(blob->NInP()); ++i) {
      const ATOOLS::Particle& incoming = *blob->ConstInParticle(i);
      if (std::labs(static_cast<long>(incoming.Flav())) != tau) continue;
      decay.decayer = static_cast<long>(incoming.Flav());
      decay.mass_gev = incoming.Momentum().Mass();
    }
    for (std::size_t i = 0; i < static_cast<std::size_t>(blob->NOutP()); ++i) {
      const ATOOLS::Particle& outgoing = *blob->ConstOutParticle(i);
      if (outgoing.DecayBlob() == nullptr) decay.particles.push_back(particle(outgoing));
    }
  }
  if (decay.decayer == 0 || decay.particles.size() < 2)
    throw GeneratorError("Sherpa generated an event without a tau decay");
  return decay;
}

}  // namespace sherpa_tau
