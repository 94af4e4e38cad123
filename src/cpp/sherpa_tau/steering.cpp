// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Connects Sherpa's random numbers to PPX. This file redefines three functions of libPhasicDecays: the libraries call
// them through the procedure linkage table, and the loader finds the symbols exported by the program first.

#include "steering.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <random>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ATOOLS/Math/Random.H"
#include "ATOOLS/Math/Vector.H"
#include "PHASIC++/Decays/Decay_Channel.H"
#include "PHASIC++/Decays/Decay_Table.H"
#include "ppx/ppx.hpp"

namespace sherpa_tau::steering {
namespace {

class KinematicsLoop;

// Sherpa is global state of the process, and so is this.
struct State {
  long decayer = 0;
  std::optional<std::size_t> channel;
  PHASIC::Decay_Table* table = nullptr;
  std::unordered_map<PHASIC::Decay_Channel*, double> raised;  // channel -> its maximum before this event
  std::exception_ptr failure;      // error that ends the run, thrown in the middle of an event
  std::mt19937_64 drain;           // draws for the rest of such an event
  KinematicsLoop* loop = nullptr;  // current call of GenerateKinematics
};

State& state() {
  static State instance;
  return instance;
}

// One execution of the rejection loop in GenerateKinematics.
class KinematicsLoop {
 public:
  KinematicsLoop(PHASIC::Decay_Channel& channel, const ATOOLS::Vec4D_Vector& momenta)
      : channel_(channel), maximum_(channel.Max()), momenta_(momenta), outer_loop_(state().loop) {
    state().loop = this;
  }
  ~KinematicsLoop() {
    state().loop = outer_loop_;
    if (channel_.Max() != maximum_) state().raised.emplace(&channel_, maximum_);
  }
  KinematicsLoop(const KinematicsLoop&) = delete;
  KinematicsLoop& operator=(const KinematicsLoop&) = delete;

  // Every repetition starts with the momenta of the first one. Phase space generators boost the momentum of the
  // decaying particle back and forth in place; without this reset, its rounding errors would depend on how often.
  void begin_repetition(ATOOLS::Vec4D_Vector& momenta) {
    // Sherpa uses the 10,001st point even if it is rejected; a rejection scope cannot express that.
    if (repetitions_ == max_repetitions && !state().failure) {
      state().failure =
          std::make_exception_ptr(std::runtime_error("decay " + channel_.Name() + ": " + std::to_string(repetitions_) +
                                                     " phase space points were rejected in a row"));
    }
    if (repetitions_++ == 0) return;
    scope_.repeat();
    momenta = momenta_;
  }

 private:
  static constexpr int max_repetitions = 10000;

  PHASIC::Decay_Channel& channel_;
  double maximum_;
  ATOOLS::Vec4D_Vector momenta_;
  KinematicsLoop* outer_loop_;
  ppx::RejectionScope scope_;
  int repetitions_ = 0;
};

// Returns Sherpa's own definition of a function that this file redefines.
template <class Function>
Function original(const char* mangled) {
  void* const symbol = dlsym(RTLD_NEXT, mangled);
  if (symbol == nullptr) throw std::runtime_error(std::string("this Sherpa lacks the function ") + mangled);
  return reinterpret_cast<Function>(symbol);
}

// The channels that Decay_Table::Select can choose for decay number `counter` of this particle in an event.
struct Choice {
  Choice(const PHASIC::Decay_Table& table, std::size_t counter) {
    double total = 0.0;
    for (PHASIC::Decay_Channel* channel : table) {
      if (channel->Active(counter) < 1 || !(channel->Width() > 0.0)) continue;
      channels.push_back(channel);
      probabilities.push_back(channel->Width());
      total += channel->Width();
    }
    for (double& probability : probabilities) probability /= total;
  }

  std::vector<PHASIC::Decay_Channel*> channels;
  std::vector<double> probabilities;
};

// A run may end in the middle of an event, because the inference side ended it or sent an invalid value. Unwinding
// through Sherpa would leave half-filled tables of the photon splitter to the next event. The event is therefore
// finished with random numbers that are not recorded, and then `rethrow_failure` ends the run.
double unrecorded_draw() { return std::uniform_real_distribution<double>(0x1p-53, 1.0)(state().drain); }

std::size_t checked_choice(double drawn, std::size_t count) {
  if (!(drawn >= 0.0 && drawn < static_cast<double>(count)) || drawn != std::floor(drawn)) {
    throw std::domain_error("the choice of one of " + std::to_string(count) + " decay channels was answered with " +
                            std::to_string(drawn));
  }
  return static_cast<std::size_t>(drawn);
}

constexpr const char* mangled_generate_kinematics =
    "_ZN6PHASIC13Decay_Channel18GenerateKinematicsERSt6vectorIN6ATOOLS4Vec4IdEESaIS4_EEbPN7METOOLS12Spin_DensityERKS1_"
    "IPNS2_8ParticleESaISC_EE";
constexpr const char* mangled_differential =
    "_ZN6PHASIC13Decay_Channel12DifferentialERSt6vectorIN6ATOOLS4Vec4IdEESaIS4_EEbPN7METOOLS12Spin_DensityERKS1_IPNS2_"
    "8ParticleESaISC_EE";

}  // namespace

void begin_event(long decayer) {
  State& now = state();
  now.decayer = decayer;
  now.channel.reset();
  for (const auto& [channel, maximum] : now.raised) channel->SetMax(maximum);
  now.raised.clear();
  now.failure = nullptr;
  now.drain.seed(1);
}

void rethrow_failure() {
  if (state().failure) std::rethrow_exception(std::exchange(state().failure, nullptr));
}

std::optional<std::size_t> chosen_channel() { return state().channel; }

std::vector<OpenChannel> open_channels() {
  std::vector<OpenChannel> result;
  if (state().table == nullptr) return result;
  const Choice open(*state().table, 1);  // the first decay of this particle in the event
  for (std::size_t i = 0; i < open.channels.size(); ++i) {
    const PHASIC::Decay_Channel& channel = *open.channels[i];
    OpenChannel& row = result.emplace_back();
    row.name = channel.Name();
    row.probability = open.probabilities[i];
    for (int k = 0; k < channel.NOut(); ++k) {
      row.products.push_back(static_cast<long>(channel.GetDecayProduct(static_cast<std::size_t>(k))));
    }
  }
  return result;
}

PHASIC::Decay_Table* decayer_table() { return state().table; }

// Draws one uniform number. Sherpa calls it by a tail call, so the calling frame is the function that draws.
class Etalumis_RNG : public ATOOLS::External_RNG {
 public:
  double Get() override {
    static const ppx::Distribution unit = ppx::Uniform{0.0, 1.0};
    if (state().failure) return unrecorded_draw();
    try {
      const double value = ppx::sample(unit);
      if (!(value >= 0.0 && value <= 1.0)) {
        throw std::domain_error("a uniform draw in [0, 1] was answered with " + std::to_string(value));
      }
      // Sherpa computes logarithms and quotients of these numbers. Its own generator never returns 0 or 1.
      return std::min(std::max(value, 0x1p-53), 1.0 - 0x1p-53);
    } catch (...) {
      state().failure = std::current_exception();
      return unrecorded_draw();
    }
  }
};

}  // namespace sherpa_tau::steering

using sherpa_tau::steering::Etalumis_RNG;
DECLARE_GETTER(Etalumis_RNG, sherpa_tau::steering::generator_name, ATOOLS::External_RNG, ATOOLS::RNG_Key);

ATOOLS::External_RNG* ATOOLS::Getter<ATOOLS::External_RNG, ATOOLS::RNG_Key, Etalumis_RNG>::operator()(
    const ATOOLS::RNG_Key& /*key*/) const {
  return new Etalumis_RNG();  // Sherpa owns it
}

void ATOOLS::Getter<ATOOLS::External_RNG, ATOOLS::RNG_Key, Etalumis_RNG>::PrintInfo(std::ostream& stream,
                                                                                    const size_t /*width*/) const {
  stream << "random numbers from the inference side of a PPX connection";
}

// In Sherpa 3.0.3, the n-th decay of this particle in an event multiplies a uniform number by the sum of the widths of
// its open channels and subtracts the widths one by one. A table with one channel takes no draw and does not count.
// Here, one categorical draw chooses among the same channels with the same probabilities.
PHASIC::Decay_Channel* PHASIC::Decay_Table::Select() {
  auto& now = sherpa_tau::steering::state();
  const bool is_decayer = static_cast<long>(m_flin.Kfcode()) == std::labs(now.decayer);
  if (is_decayer) now.table = this;
  if (size() == 1) {
    if (is_decayer) now.channel = 0;
    return front();
  }
  ++m_counter;
  const sherpa_tau::steering::Choice open(*this, m_counter);
  if (open.channels.empty()) return nullptr;  // as in Sherpa; its callers check
  std::size_t index = 0;
  if (open.channels.size() > 1 && !now.failure) {
    // Draw in this function, so that its name is the innermost frame of the address.
    const auto count = static_cast<std::int32_t>(open.channels.size());
    try {
      const double drawn = ppx::sample(ppx::Categorical{ppx::Tensor(open.probabilities, {count})}, true,
                                       is_decayer ? std::string_view("channel") : std::string_view());
      index = sherpa_tau::steering::checked_choice(drawn, open.channels.size());
    } catch (...) {
      now.failure = std::current_exception();
    }
  }
  if (is_decayer) now.channel = index;
  return open.channels[index];
}

// The rejection loop of a decay. Every repetition starts with Differential (the phase space point and its weight) and
// ends with the acceptance test. If the weight exceeds the known maximum, Sherpa raises the maximum and accepts.
void PHASIC::Decay_Channel::GenerateKinematics(ATOOLS::Vec4D_Vector& momenta, bool anti, METOOLS::Spin_Density* sigma,
                                               const std::vector<ATOOLS::Particle*>& particles) {
  namespace steering = sherpa_tau::steering;
  using Function = void (*)(Decay_Channel*, ATOOLS::Vec4D_Vector&, bool, METOOLS::Spin_Density*,
                            const std::vector<ATOOLS::Particle*>&);
  static const auto sherpas = steering::original<Function>(steering::mangled_generate_kinematics);
  const steering::KinematicsLoop loop(*this, momenta);
  sherpas(this, momenta, anti, sigma, particles);
}

double PHASIC::Decay_Channel::Differential(ATOOLS::Vec4D_Vector& momenta, bool anti, METOOLS::Spin_Density* sigma,
                                           const std::vector<ATOOLS::Particle*>& particles) {
  namespace steering = sherpa_tau::steering;
  using Function = double (*)(Decay_Channel*, ATOOLS::Vec4D_Vector&, bool, METOOLS::Spin_Density*,
                              const std::vector<ATOOLS::Particle*>&);
  static const auto sherpas = steering::original<Function>(steering::mangled_differential);
  if (steering::KinematicsLoop* const loop = steering::state().loop; loop != nullptr) loop->begin_repetition(momenta);
  return sherpas(this, momenta, anti, sigma, particles);
}
