// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Measures tau decays without PPX, the baseline of delegated runs in `etalumis bench traces`. Of Sherpa, only the
// random number generator is replaced, by a local one.

#include <execinfo.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <limits>
#include <map>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "ATOOLS/Math/Random.H"
#include "ATOOLS/Org/Exception.H"
#include "ATOOLS/Phys/Blob_List.H"
#include "ATOOLS/Phys/Particle.H"
#include "SHERPA/Main/Sherpa.H"
#include "calorimeter.hpp"
#include "log_prob.hpp"
#include "particle.hpp"
#include "ppx/ppx.hpp"
#include "run.hpp"
#include "run_config.hpp"
#include "scratch.hpp"

namespace sherpa_tau::measure {
namespace {

constexpr const char* usage =
    R"(usage: sherpa_tau_measure --config FILE

Reads lines KIND SECONDS from standard input and answers each with a line of JSON: the numbers of events and draws, and
the seconds that they took.

  bare         Sherpa's events
  backtrace    the same with backtrace(3) at every draw
  deposit      the energy that every voxel of the calorimeter gets from an event
  calorimeter  the same, observed with ppx::observe and scored against an observation
)";

constexpr const char* generator_name = "Local_RNG";
constexpr long tau = 15;
constexpr int max_frames = 128;

struct State {
  std::mt19937_64 generator{1};
  bool with_backtrace = false;
  std::uint64_t draws = 0;
};

// Sherpa creates its generator itself and is global state of the process, and so is this.
State& state() {
  static State instance;
  return instance;
}

double uniform() {
  // never 0 or 1, as for Sherpa's own generator
  return (static_cast<double>(state().generator() >> 12U) + 0.5) * 0x1p-52;
}

}  // namespace

class Local_RNG : public ATOOLS::External_RNG {
 public:
  double Get() override {
    State& now = state();
    ++now.draws;
    if (now.with_backtrace) {
      void* frames[max_frames];
      const int size = backtrace(frames, max_frames);
      asm volatile("" : : "r"(frames), "r"(size) : "memory");  // keeps the compiler from removing the unused result
    }
    return uniform();
  }
};

namespace {

using Clock = std::chrono::steady_clock;

class BareSherpa {
 public:
  explicit BareSherpa(const std::filesystem::path& run_card) {
    const ScratchDirectory scratch;
    std::ofstream card(scratch.path() / "Sherpa.yaml");
    card << std::ifstream(run_card).rdbuf() << "\nEXTERNAL_RNG: " << generator_name
         << "\nOUTPUT: 1\nEVT_OUTPUT: 0\nEVENT_DISPLAY_INTERVAL: 1000000000\nWRITE_REFERENCES_FILE: 0\n";
    card.close();
    if (!card) throw std::runtime_error(run_card.string() + ": cannot be read or copied");
    const SilencedOutput::Section silent(output_);
    std::string program = "sherpa_tau_measure";
    char* arguments[] = {program.data(), nullptr};
    sherpa_ = new SHERPA::Sherpa(1, arguments);  // never destroyed, see Generator
    if (!sherpa_->InitializeTheRun() || !sherpa_->InitializeTheEventHandler()) {
      throw std::runtime_error("Sherpa did not start:\n" + output_.tail(2000));
    }
  }

  template <class AfterEach>
  void generate(const AfterEach& after_each) {
    const SilencedOutput::Section silent(output_);
    do {
      if (!sherpa_->GenerateOneEvent()) throw std::runtime_error("Sherpa did not complete an event");
    } while (after_each());
  }

  // The stable particles of the last event, boosted to the frame where the decayer has the given momentum.
  std::vector<Particle> particles(const Momentum& momentum) const {
    std::vector<Particle> stable;
    double mass = 0.0;
    for (const ATOOLS::Blob* blob : sherpa_->GetBlobList()) {
      for (std::size_t i = 0; i < static_cast<std::size_t>(blob->NInP()); ++i) {
        const ATOOLS::Particle& incoming = *blob->ConstInParticle(i);
        if (std::labs(static_cast<long>(incoming.Flav())) == tau) mass = incoming.Momentum().Mass();
      }
      for (std::size_t i = 0; i < static_cast<std::size_t>(blob->NOutP()); ++i) {
        const ATOOLS::Particle& outgoing = *blob->ConstOutParticle(i);
        const ATOOLS::Vec4D& p = outgoing.Momentum();
        if (outgoing.DecayBlob() == nullptr) {
          stable.push_back({static_cast<long>(outgoing.Flav()), p[0], p[1], p[2], p[3]});
        }
      }
    }
    return boosted(stable, mass, momentum);
  }

 private:
  SilencedOutput output_;
  SHERPA::Sherpa* sherpa_ = nullptr;
};

ppx::Tensor image(const Calorimeter& calorimeter, const std::vector<Particle>& particles) {
  constexpr auto depth = static_cast<std::int32_t>(Calorimeter::depth);
  constexpr auto side = static_cast<std::int32_t>(Calorimeter::side);
  return {calorimeter.deposit(particles), {depth, side, side}};
}

// The last part of TauDecay::forward: the detector's response to an event.
class Detector final : public ppx::Model {
 public:
  Detector(const Calorimeter& calorimeter, double noise_gev) : calorimeter_(calorimeter), noise_gev_(noise_gev) {}

  std::string name() const override { return "detector"; }
  ppx::Tensor forward() override {
    ppx::observe(ppx::Normal{image(calorimeter_, *event), noise_gev_}, "calorimeter");
    return {};
  }

  const std::vector<Particle>* event = nullptr;

 private:
  const Calorimeter& calorimeter_;
  double noise_gev_;
};

// Scores observe statements as a delegated run does.
class Scorer final : public ppx::detail::Peer {
 public:
  explicit Scorer(const ppx::Tensor& observed) : observed_(observed) {}

  double sample(const ppx::Event& /*event*/, const ppx::detail::Site& /*site*/) override { return 0.0; }
  void observe(const ppx::Event& event, const ppx::detail::Site& /*site*/) override {
    log_likelihood += ppx::detail::log_prob(*event.distribution, observed_);
  }
  void tag(const ppx::Event& /*event*/, const ppx::detail::Site& /*site*/) override {}

  double log_likelihood = 0.0;

 private:
  const ppx::Tensor& observed_;
};

class Bench {
 public:
  explicit Bench(const RunConfig& config)
      : config_(config), sherpa_(config.run_card), calorimeter_(config.calorimeter) {
    sherpa_.generate([this] {
      events_.push_back(sherpa_.particles({within(config_.px_gev), within(config_.py_gev), within(config_.pz_gev)}));
      return events_.size() < kept_events;
    });
    observed_ = image(calorimeter_, events_.front());
    for (double& energy : observed_.data) energy += config_.noise_gev * noise_(state().generator);
  }

  std::string measure(const std::string& kind, double seconds) {
    const std::map<std::string, std::function<void(double)>> kinds{
        {"bare", [this](double s) { sherpa(s, false); }},
        {"backtrace", [this](double s) { sherpa(s, true); }},
        {"deposit", [this](double s) { deposit(s); }},
        {"calorimeter", [this](double s) { calorimeter(s); }},
    };
    const auto found = kinds.find(kind);
    if (found == kinds.end()) throw std::runtime_error("unknown KIND '" + kind + "'");
    count_ = state().draws = 0;
    found->second(seconds);
    std::ostringstream text;
    text.precision(std::numeric_limits<double>::max_digits10);
    text << "{\"events\": " << count_ << ", \"draws\": " << state().draws << ", \"seconds\": " << time_.count() << "}";
    return text.str();
  }

 private:
  static constexpr std::size_t kept_events = 500;

  // For `goes_on` of a loop, called after every event.
  bool goes_on(Clock::time_point start, double seconds) {
    ++count_;
    time_ = Clock::now() - start;
    return time_.count() < seconds;
  }

  void sherpa(double seconds, bool with_backtrace) {
    state().with_backtrace = with_backtrace;
    const auto start = Clock::now();
    sherpa_.generate([&] { return goes_on(start, seconds); });
  }

  void deposit(double seconds) {
    double sum = 0.0;
    const auto start = Clock::now();
    do {
      sum += calorimeter_.deposit(events_[count_ % events_.size()])[Calorimeter::voxels / 2];
    } while (goes_on(start, seconds));
    asm volatile("" : : "r"(&sum) : "memory");
  }

  void calorimeter(double seconds) {
    Detector detector(calorimeter_, config_.noise_gev);
    Scorer scorer(observed_);
    const auto start = Clock::now();
    do {
      detector.event = &events_[count_ % events_.size()];
      ppx::detail::Run(scorer).forward(detector);
    } while (goes_on(start, seconds));
    if (!(scorer.log_likelihood < 0.0)) throw std::runtime_error("the calorimeter's events have no likelihood");
  }

  static double within(const Range& range) { return range.low + (range.high - range.low) * uniform(); }

  RunConfig config_;
  BareSherpa sherpa_;
  Calorimeter calorimeter_;
  std::vector<std::vector<Particle>> events_;
  ppx::Tensor observed_;
  std::normal_distribution<double> noise_;
  std::uint64_t count_ = 0;
  std::chrono::duration<double> time_{0.0};
};

}  // namespace
}  // namespace sherpa_tau::measure

using sherpa_tau::measure::Local_RNG;
DECLARE_GETTER(Local_RNG, sherpa_tau::measure::generator_name, ATOOLS::External_RNG, ATOOLS::RNG_Key);

ATOOLS::External_RNG* ATOOLS::Getter<ATOOLS::External_RNG, ATOOLS::RNG_Key, Local_RNG>::operator()(
    const ATOOLS::RNG_Key& /*key*/) const {
  return new Local_RNG();  // Sherpa owns it
}

void ATOOLS::Getter<ATOOLS::External_RNG, ATOOLS::RNG_Key, Local_RNG>::PrintInfo(std::ostream& stream,
                                                                                 const size_t /*width*/) const {
  stream << "draws of a local generator, for measuring";
}

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() != 2 || words[0] != "--config") {
    std::cerr << sherpa_tau::measure::usage;
    return 2;
  }
  try {
    sherpa_tau::measure::Bench bench(sherpa_tau::read_config(words[1]));
    std::string kind;
    for (double seconds = 0.0; std::cin >> kind >> seconds;) std::cout << bench.measure(kind, seconds) << std::endl;
  } catch (const ATOOLS::Exception& error) {
    std::cerr << "sherpa_tau_measure: " << error << '\n';
    return 1;
  } catch (const std::exception& error) {
    std::cerr << "sherpa_tau_measure: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
