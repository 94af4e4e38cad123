// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// A chain of five states, each of which decides the prior of the next; obs0 ... obs4 ~ N(mean of the state, 1). The
// posterior follows from the forward-backward algorithm (tests/exact/answers.py).
#include <array>
#include <cstddef>
#include <string>

#include "program.hpp"

namespace {

constexpr std::size_t kSteps = 5;
constexpr std::array<std::array<double, 3>, 3> kTransitions = {{{0.7, 0.2, 0.1}, {0.15, 0.7, 0.15}, {0.1, 0.3, 0.6}}};
constexpr std::array<double, 3> kMeans = {-1.0, 0.5, 2.0};

}  // namespace

class HiddenMarkov final : public ppx::Model {
 public:
  std::string name() const override { return "hidden_markov"; }
  ppx::Tensor forward() override;
};

ppx::Tensor HiddenMarkov::forward() {
  std::array<double, 3> probs = {1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0};
  double state = 0.0;
  for (std::size_t step = 0; step < kSteps; ++step) {
    const std::string number = std::to_string(step);
    const ppx::Categorical prior{{{probs[0], probs[1], probs[2]}, {3}}};
    state = ppx::sample(prior, true, "state" + number);
    const auto index = static_cast<std::size_t>(state);
    probs = kTransitions.at(index);
    ppx::observe(ppx::Normal{kMeans.at(index), 1.0}, "obs" + number);
  }
  return state;
}

int main(int argc, char** argv) {
  return run_program(argc, argv, "Hidden Markov model: five states with a transition matrix; observes obs0 ... obs4.",
                     {}, [](const Arguments&) { return std::make_unique<HiddenMarkov>(); });
}
