// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Tests that the categorical draw that replaces PHASIC::Decay_Table::Select has the same outcomes and frequencies as
// Sherpa's own function.
//
// usage: sherpa_tau_channel_test CONFIG

#include <dlfcn.h>

#include <cmath>
#include <iostream>
#include <map>
#include <string>

#include "PHASIC++/Decays/Decay_Channel.H"
#include "PHASIC++/Decays/Decay_Table.H"
#include "check.hpp"
#include "model.hpp"
#include "steering.hpp"

namespace {

using sherpa_tau::tests::check;
using Counts = std::map<std::string, double>;
using Select = PHASIC::Decay_Channel* (*)(PHASIC::Decay_Table*);

constexpr int trials = 400000;

// Outside a run ppx::sample draws from a generator with a fixed seed: the test is reproducible.
template <class Choose>
Counts frequencies(PHASIC::Decay_Table& table, Choose choose) {
  Counts counts;
  for (int i = 0; i < trials; ++i) {
    table.ResetCounter();
    const PHASIC::Decay_Channel* const channel = choose(table);
    if (check(channel != nullptr, "no channel chosen")) counts[channel->Name()] += 1.0;
  }
  return counts;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: sherpa_tau_channel_test CONFIG\n";
    return 2;
  }
  sherpa_tau::TauDecay model(sherpa_tau::read_config(argv[1]));
  ppx::run_local(model, 1);
  PHASIC::Decay_Table& table = *sherpa_tau::steering::decayer_table();
  const auto sherpas = reinterpret_cast<Select>(dlsym(RTLD_NEXT, "_ZN6PHASIC11Decay_Table6SelectEv"));
  if (!check(sherpas != nullptr, "Sherpa's own Select not found")) return 1;
  Counts original = frequencies(table, [sherpas](PHASIC::Decay_Table& t) { return sherpas(&t); });
  Counts replaced = frequencies(table, [](PHASIC::Decay_Table& t) { return t.Select(); });
  check(sherpas != reinterpret_cast<Select>(dlsym(RTLD_DEFAULT, "_ZN6PHASIC11Decay_Table6SelectEv")),
        "Sherpa's Select was not replaced");
  double total = 0.0;
  for (const auto& channel : sherpa_tau::steering::open_channels()) {
    const auto& [name, probability, products] = channel;
    check(products.size() >= 2, name + ": fewer than two products");
    total += probability;
    const double expected = trials * probability;
    // 4.5 standard deviations of a binomial count, plus one for the discreteness of the rarest (15 expected).
    const double allowed = 4.5 * std::sqrt(expected * (1.0 - probability)) + 1.0;
    for (Counts* counts : {&original, &replaced}) {
      check(std::abs((*counts)[name] - expected) < allowed,
            name + ": expected " + std::to_string(expected) + ", found " + std::to_string((*counts)[name]));
      counts->erase(name);
    }
  }
  check(original.empty(), "Sherpa chooses a channel that the categorical draw lacks");
  check(replaced.empty(), "a channel that is not open was chosen");
  check(std::abs(total - 1.0) < 1e-12, "the probabilities do not add up to one");
  return sherpa_tau::tests::failures() > 0 ? 1 : 0;
}
