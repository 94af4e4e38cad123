// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Difficult cases for replayed runs: a random walk whose priors never repeat, a support that depends on an earlier
// draw, an optional rejection scope, uncontrolled draws inside and outside of scopes, varying numbers of categories and
// of trials, and observations with and without a value and with several elements.
#include <stdexcept>

#include "program.hpp"

class Drifting final : public ppx::Model {
 public:
  explicit Drifting(int steps) : steps_(steps) {}
  std::string name() const override { return "drifting"; }
  ppx::Tensor forward() override;

 private:
  int steps_;
};

double walk(double position, int steps) {
  for (int i = 0; i < steps; ++i) position += ppx::sample(ppx::Normal{-0.1 * position, 0.5}, i % 3 != 2);
  return position;
}

/// Repeats until the noisy time is below 2.
double wait(double mean) {
  ppx::RejectionScope scope;
  for (;;) {
    const double time = ppx::sample(ppx::Exponential{1.0 / mean}, true, "time");
    const double noise = ppx::sample(ppx::Normal{0.0, 0.3}, false);
    const double weight = ppx::sample(ppx::Uniform{0.0, 1.0});
    if (time + noise * weight < 2.0) return time;
    scope.repeat();
  }
}

ppx::Tensor Drifting::forward() {
  const double start = ppx::sample(ppx::Uniform{1.0, 2.0}, true, "start");
  const double position = walk(start, steps_);
  const double width = ppx::sample(ppx::Uniform{0.0, start}, true, "width");
  const bool detour = ppx::sample(ppx::Bernoulli{0.4}, true, "detour") == 1.0;
  double waited = detour ? wait(start) : 0.0;
  waited += wait(1.0 + width);
  const double kind = detour ? ppx::sample(ppx::Categorical{{{1.0, 2.0, 1.0}, {3}}}, true, "kind")
                             : ppx::sample(ppx::Categorical{{{3.0, 1.0}, {2}}}, true, "kind");
  const double hits = ppx::sample(ppx::Binomial{4.0 + kind, 0.25 + 0.1 * width}, true, "hits");
  ppx::observe(ppx::Normal{{{position, width}, {2}}, 0.7}, "track");
  ppx::observe(ppx::Beta{{{0.5, 0.5 + width}, {2}}, 2.0}, "shares");
  ppx::observe(ppx::Poisson{1.0 + hits}, "count", ppx::Tensor(2.0));
  ppx::tag("waited", waited);
  if (!(hits >= 0.0 && hits < 100.0)) throw std::domain_error("hits: expected 0 to 99");
  ppx::Tensor picture(std::vector<double>(100, 0.0), {10, 10});
  picture.data[static_cast<std::size_t>(hits)] = waited;
  ppx::tag("picture", picture);
  return position;
}

int main(int argc, char** argv) {
  return run_program(argc, argv, "A random walk, rejection loops and supports that depend on earlier draws.",
                     {{"steps", {"N", "steps of the walk (default 4)"}}}, [](const Arguments& arguments) {
                       const auto found = arguments.own.find("steps");
                       return std::make_unique<Drifting>(found == arguments.own.end() ? 4 : std::stoi(found->second));
                     });
}
