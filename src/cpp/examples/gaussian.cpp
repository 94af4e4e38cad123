// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Gaussian with unknown mean: mu ~ N(1, sqrt 5), two observations ~ N(mu, sqrt 2). For obs0 = 8, obs1 = 9 the posterior
// of mu is normal with mean 7.25 and variance 0.833333, the log evidence -8.239404.
#include <cmath>

#include "program.hpp"

// In no anonymous namespace, as all functions that draw: exported symbols give readable addresses.
class GaussianUnknownMean final : public ppx::Model {
 public:
  std::string name() const override { return "gaussian_unknown_mean"; }
  ppx::Tensor forward() override;
};

double prior_mean() { return ppx::sample(ppx::Normal{1.0, std::sqrt(5.0)}, true, "mu"); }

ppx::Tensor GaussianUnknownMean::forward() {
  const double mu = prior_mean();
  ppx::tag("mu", mu);
  const ppx::Normal likelihood{mu, std::sqrt(2.0)};
  ppx::observe(likelihood, "obs0");
  ppx::observe(likelihood, "obs1");
  return mu;
}

int main(int argc, char** argv) {
  return run_program(argc, argv, "Gaussian with unknown mean: mu ~ N(1, sqrt 5), obs0 and obs1 ~ N(mu, sqrt 2).", {},
                     [](const Arguments&) { return std::make_unique<GaussianUnknownMean>(); });
}
