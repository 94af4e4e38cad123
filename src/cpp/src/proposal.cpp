// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include "proposal.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "draw.hpp"
#include "log_prob.hpp"

namespace ppx::detail {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// Step scales are log-uniform between these fractions of the width of the prior, for narrow posteriors.
constexpr double min_scale = 1e-3;
constexpr double max_scale = 1.0;

double scale(Generator& g) {
  static const double log_min_scale = std::log(min_scale);
  static const double log_range = std::log(max_scale / min_scale);
  return std::exp(log_min_scale + log_range * g.uniform());
}

/// A Gaussian step of a random scale times `width`. The two draws are separate statements, because C++ does not define
/// the order of evaluation in a product, and a chain must not depend on the compiler.
double gaussian_step(double width, Generator& g) {
  const double spread = width * scale(g);
  return spread * standard_normal(g);
}

double datum(const Tensor& tensor) { return tensor.data[0]; }

/// A step from `x` within its prior, whose log density at `x` is `log_density`.
struct LocalStep {
  const Distribution& prior;
  double x;
  double log_density;
  Generator& g;

  Proposal symmetric(double moved) const { return {moved, log_prob(prior, moved) - log_density}; }

  // On the circle [low, high) the Gaussian step is symmetric, and the prior is constant.
  Proposal operator()(const Uniform& d) const {
    const double low = datum(d.low);
    const double high = datum(d.high);
    const double width = high - low;
    double moved = std::fmod(x - low + gaussian_step(width, g), width);
    if (moved < 0.0) moved += width;
    return {std::min(low + moved, high), 0.0};
  }
  // Uniform over the categories other than x: symmetric.
  Proposal operator()(const Categorical& d) const {
    const auto others = static_cast<double>(d.probs.data.size()) - 1.0;
    if (others == 0.0) return {x, 0.0};
    const double moved = std::floor(g.uniform() * others);
    return symmetric(moved >= x ? moved + 1.0 : moved);
  }
  Proposal operator()(const Bernoulli&) const { return symmetric(1.0 - x); }
  Proposal operator()(const Poisson& d) const { return whole_step(datum(d.rate)); }
  Proposal operator()(const Binomial& d) const {
    const double p = datum(d.probs);
    return whole_step(datum(d.total_count) * p * (1.0 - p));
  }
  Proposal operator()(const NegativeBinomial& d) const {
    const double failure = 1.0 - datum(d.probs);
    return whole_step(datum(d.total_count) * datum(d.probs) / failure / failure);
  }
  Proposal operator()(const StudentT& d) const { return symmetric(x + gaussian_step(2.0 * datum(d.scale), g)); }
  Proposal operator()(const Normal& d) const { return symmetric(x + gaussian_step(2.0 * datum(d.stddev), g)); }
  Proposal operator()(const Exponential&) const { return log_step(); }
  Proposal operator()(const Gamma&) const { return log_step(); }
  Proposal operator()(const LogNormal&) const { return log_step(); }
  Proposal operator()(const Weibull&) const { return log_step(); }
  Proposal operator()(const Beta&) const { return logit_step(); }

  // Up or down with the same probability and the same distribution of lengths: symmetric.
  Proposal whole_step(double variance) const {
    const double length = variance > 0.0 ? std::ceil(scale(g) * 3.0 * std::sqrt(variance)) : 1.0;
    return symmetric(g.uniform() < 0.5 ? x + length : x - length);
  }
  // A symmetric step in log x has density phi / x' in x': the Jacobian leaves x' / x.
  Proposal log_step() const {
    if (x <= 0.0) return {x, 0.0};  // a draw that underflowed to 0 has no logarithm; only a new draw changes it
    const double moved = x * std::exp(gaussian_step(2.0, g));
    if (!(moved > 0.0 && moved < infinity)) return {x, -infinity};
    Proposal proposal = symmetric(moved);
    proposal.log_ratio += std::log(moved) - std::log(x);
    return proposal;
  }
  // A symmetric step in z = log(x / (1 - x)), dx/dz = x (1 - x).
  Proposal logit_step() const {
    if (!(x > 0.0 && x < 1.0)) return {x, 0.0};
    const double z = std::log(x) - std::log1p(-x) + gaussian_step(2.0, g);
    const double moved = 1.0 / (1.0 + std::exp(-z));
    if (!(moved > 0.0 && moved < 1.0)) return {x, -infinity};
    Proposal proposal = symmetric(moved);
    proposal.log_ratio += std::log(moved) + std::log1p(-moved) - std::log(x) - std::log1p(-x);
    return proposal;
  }
};

}  // namespace

Proposal propose(const Distribution& prior, double value, double log_density, double fresh_share,
                 Generator& generator) {
  if (generator.uniform() < fresh_share) return {draw_scalar(prior, generator), 0.0};
  return std::visit(LocalStep{prior, value, log_density, generator}, prior);
}

}  // namespace ppx::detail
