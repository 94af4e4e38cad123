// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// The Gaussian with unknown mean, its prior drawn by Marsaglia's polar method: a rejection loop without a test draw.
// A repetition (x, y) is accepted if it is in the unit disc, so the accepted one has the density 1{s < 1} / (4 Z) with
// Z = pi / 4. Posterior and evidence are those of gaussian.cpp.
#include <cmath>

#include "program.hpp"

class Marsaglia final : public ppx::Model {
 public:
  explicit Marsaglia(bool replaced) : replaced_(replaced) {}
  std::string name() const override { return replaced_ ? "marsaglia_replaced" : "marsaglia"; }
  ppx::Tensor forward() override;

 private:
  bool replaced_;
};

namespace {

const ppx::Uniform side{-1.0, 1.0};

double to_normal(double mean, double stddev, double x, double s) {
  return mean + stddev * x * std::sqrt(-2.0 * std::log(s) / s);
}

}  // namespace

/// The draws of all repetitions are latents.
double marsaglia(double mean, double stddev) {
  double x = 0.0;
  double s = 0.0;
  do {
    x = ppx::sample(side);
    const double y = ppx::sample(side);
    s = x * x + y * y;
  } while (s >= 1.0);
  return to_normal(mean, stddev, x, s);
}

/// The same loop as a rejection scope: only the accepted repetition counts.
double marsaglia_replaced(double mean, double stddev) {
  ppx::RejectionScope scope;
  for (;;) {
    const double x = ppx::sample(side);
    const double y = ppx::sample(side);
    const double s = x * x + y * y;
    if (s < 1.0) return to_normal(mean, stddev, x, s);
    scope.repeat();
  }
}

ppx::Tensor Marsaglia::forward() {
  const double mean = 1.0;
  const double stddev = std::sqrt(5.0);
  const double mu = replaced_ ? marsaglia_replaced(mean, stddev) : marsaglia(mean, stddev);
  ppx::tag("mu", mu);
  const ppx::Normal likelihood{mu, std::sqrt(2.0)};
  ppx::observe(likelihood, "obs0");
  ppx::observe(likelihood, "obs1");
  return mu;
}

int main(int argc, char** argv) {
  return run_program(
      argc, argv, "Gaussian with unknown mean drawn by Marsaglia's rejection loop; observes obs0 and obs1.",
      {{"replaced", {"", "make the loop a rejection scope: only its accepted repetition is a latent"}}},
      [](const Arguments& arguments) { return std::make_unique<Marsaglia>(arguments.own.count("replaced") != 0); });
}
