// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// One draw from each of the distributions, one observation and one tag, to test peers.
#include "program.hpp"

class AllDistributions final : public ppx::Model {
 public:
  std::string name() const override { return "all_distributions"; }
  ppx::Tensor forward() override;
};

ppx::Tensor AllDistributions::forward() {
  const std::vector<double> draws = {
      ppx::sample(ppx::Normal{1.0, 2.0}, true, "normal"),
      ppx::sample(ppx::Uniform{-1.0, 3.0}, true, "uniform"),
      ppx::sample(ppx::Categorical{{{0.2, 0.3, 0.5}, {3}}}, true, "categorical"),
      ppx::sample(ppx::Poisson{4.0}, true, "poisson"),
      ppx::sample(ppx::Bernoulli{0.25}, true, "bernoulli"),
      ppx::sample(ppx::Beta{2.0, 3.0}, true, "beta"),
      ppx::sample(ppx::Exponential{0.5}, true, "exponential"),
      ppx::sample(ppx::Gamma{3.0, 2.0}, true, "gamma"),
      ppx::sample(ppx::LogNormal{0.1, 0.5}, true, "lognormal"),
      ppx::sample(ppx::Binomial{10.0, 0.3}, true, "binomial"),
      ppx::sample(ppx::Weibull{2.0, 1.5}, false, "weibull"),  // not controlled
      ppx::sample(ppx::NegativeBinomial{2.5, 0.6}, true, "negativebinomial"),
      ppx::sample(ppx::StudentT{3.0, 1.0, 2.0}, true, "studentt"),
  };
  const ppx::Tensor all(draws, {static_cast<std::int32_t>(draws.size())});
  ppx::observe(ppx::Normal{{{draws[0], draws[1]}, {2}}, 1.0}, "obs");
  ppx::tag("all", all);
  return all;
}

int main(int argc, char** argv) {
  return run_program(argc, argv, "One draw from each of the distributions of PPX; observes obs, tags all.", {},
                     [](const Arguments&) { return std::make_unique<AllDistributions>(); });
}
