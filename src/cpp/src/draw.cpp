// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include "draw.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "parameters.hpp"

namespace ppx::detail {
namespace {

constexpr double pi = 3.141592653589793238462643383279502884;
constexpr double min_positive = std::numeric_limits<double>::min();

}  // namespace

double standard_normal(
    Generator& generator) {  // Box and Muller (1958); the second value is discarded, to keep no state
  const double radius = std::sqrt(-2.0 * std::log(generator.open_uniform()));
  return radius * std::cos(2.0 * pi * generator.uniform());
}

namespace {

double standard_exponential(Generator& g) { return -std::log(g.open_uniform()); }

/// Logarithm of a Gamma(concentration, 1) draw: Marsaglia and Tsang (2000). In log space, because draws with a small
/// concentration underflow.
double log_standard_gamma(double concentration, Generator& g) {
  if (concentration < 1.0) {
    return log_standard_gamma(concentration + 1.0, g) + std::log(g.open_uniform()) / concentration;
  }
  const double d = concentration - 1.0 / 3.0;
  const double c = 1.0 / std::sqrt(9.0 * d);
  for (;;) {
    const double x = standard_normal(g);
    const double root = 1.0 + c * x;
    if (root <= 0.0) continue;
    const double log_v = 3.0 * std::log(root);
    if (std::log(g.open_uniform()) < 0.5 * x * x + d * (1.0 - std::exp(log_v) + log_v)) return std::log(d) + log_v;
  }
}

double log_factorial(double k) {
  if (k < 10.0) {
    double product = 1.0;
    for (double i = 2.0; i <= k; i += 1.0) product *= i;
    return std::log(product);
  }
  // Stirling's series; the first omitted term is 1 / (1680 k^7): 6e-11 at k = 10.
  const double k2 = k * k;
  return k * std::log(k) - k + 0.5 * std::log(2.0 * pi * k) +
         (1.0 / 12.0 - (1.0 / 360.0 - 1.0 / (1260.0 * k2)) / k2) / k;
}

double poisson(double rate, Generator& g) {
  if (rate < 10.0) {  // inversion
    double u = g.uniform();
    double mass = std::exp(-rate);
    double k = 0.0;
    while (u >= mass && mass > 0.0) {
      u -= mass;
      k += 1.0;
      mass *= rate / k;
    }
    return k;
  }
  // Transformed rejection PTRS, Hoermann (1993).
  const double log_rate = std::log(rate);
  const double b = 0.931 + 2.53 * std::sqrt(rate);
  const double a = -0.059 + 0.02483 * b;
  const double inverse_alpha = 1.1239 + 1.1328 / (b - 3.4);
  const double v_r = 0.9277 - 3.6224 / (b - 2.0);
  for (;;) {
    const double u = g.open_uniform() - 0.5;
    const double v = g.open_uniform();
    const double us = 0.5 - std::abs(u);
    const double k = std::floor((2.0 * a / us + b) * u + rate + 0.43);
    if (us >= 0.07 && v <= v_r) return k;
    if (k < 0.0 || (us < 0.013 && v > us)) continue;
    if (std::log(v * inverse_alpha / (a / (us * us) + b)) <= k * log_rate - rate - log_factorial(k)) return k;
  }
}

double binomial_inversion(double n, double p, Generator& g) {
  double u = g.uniform();
  double mass = std::exp(n * std::log1p(-p));
  const double odds = p / (1.0 - p);
  double k = 0.0;
  while (u >= mass && k < n) {
    u -= mass;
    mass *= odds * (n - k) / (k + 1.0);
    k += 1.0;
  }
  return k;
}

double binomial(double n, double p, Generator& g) {
  if (p > 0.5) return n - binomial(n, 1.0 - p, g);
  if (n * p < 10.0) return binomial_inversion(n, p, g);
  // Transformed rejection BTRS, Hoermann (1993).
  const double spread = std::sqrt(n * p * (1.0 - p));
  const double b = 1.15 + 2.53 * spread;
  const double a = -0.0873 + 0.0248 * b + 0.01 * p;
  const double center = n * p + 0.5;
  const double v_r = 0.92 - 4.2 / b;
  const double alpha = (2.83 + 5.1 / b) * spread;
  const double log_odds = std::log(p / (1.0 - p));
  const double mode = std::floor((n + 1.0) * p);
  const double at_mode = log_factorial(mode) + log_factorial(n - mode);
  for (;;) {
    const double u = g.open_uniform() - 0.5;
    const double v = g.open_uniform();
    const double us = 0.5 - std::abs(u);
    const double k = std::floor((2.0 * a / us + b) * u + center);
    if (us >= 0.07 && v <= v_r) return k;
    if (k < 0.0 || k > n) continue;
    const double log_ratio = at_mode - log_factorial(k) - log_factorial(n - k) + (k - mode) * log_odds;
    if (std::log(v * alpha / (a / (us * us) + b)) <= log_ratio) return k;
  }
}

double beta(double concentration1, double concentration0, Generator& g) {
  const double log1 = log_standard_gamma(concentration1, g);
  const double log0 = log_standard_gamma(concentration0, g);
  const double x = 1.0 / (1.0 + std::exp(log0 - log1));
  // The density may be infinite at 0 and 1: exclude them.
  return std::clamp(x, min_positive, 1.0 - std::numeric_limits<double>::epsilon() / 2.0);
}

double categorical(const double* probs, std::size_t size, Generator& g) {
  double sum = 0.0;
  for (std::size_t i = 0; i < size; ++i) sum += probs[i];
  double u = g.uniform() * sum;
  std::size_t last = 0;  // the last category of positive probability, in case rounding carries u past the end
  for (std::size_t i = 0; i < size; ++i) {
    if (probs[i] <= 0.0) continue;
    last = i;
    if (u < probs[i]) break;
    u -= probs[i];
  }
  return static_cast<double>(last);
}

double draw(const Normal&, double mean, double stddev, Generator& g) { return mean + stddev * standard_normal(g); }
double draw(const Uniform&, double low, double high, Generator& g) {
  const double x = low + (high - low) * g.uniform();
  return x < high ? x : std::nextafter(high, low);  // rounding may give the excluded upper bound
}
double draw(const Poisson&, double rate, double, Generator& g) { return poisson(rate, g); }
double draw(const Bernoulli&, double p, double, Generator& g) { return g.uniform() < p ? 1.0 : 0.0; }
double draw(const Beta&, double c1, double c0, Generator& g) { return beta(c1, c0, g); }
double draw(const Exponential&, double rate, double, Generator& g) { return standard_exponential(g) / rate; }
double draw(const Gamma&, double concentration, double rate, Generator& g) {
  return std::max(std::exp(log_standard_gamma(concentration, g)) / rate, min_positive);
}
double draw(const LogNormal&, double loc, double scale, Generator& g) {
  return std::exp(loc + scale * standard_normal(g));
}
double draw(const Binomial&, double n, double p, Generator& g) { return binomial(n, p, g); }
double draw(const Weibull&, double scale, double concentration, Generator& g) {
  return scale * std::pow(standard_exponential(g), 1.0 / concentration);
}

double draw(const NegativeBinomial&, double total_count, double p, Generator& g) {
  constexpr double max_rate = 0x1p53;
  if (p == 0.0) return 0.0;
  const double log_rate = log_standard_gamma(total_count, g) + std::log(p / (1.0 - p));
  return poisson(std::min(std::exp(log_rate), max_rate), g);
}
double draw(const StudentT&, double df, double loc, double scale, Generator& g) {
  const double log_spread = 0.5 * (std::log(0.5 * df) - log_standard_gamma(0.5 * df, g));
  return loc + scale * standard_normal(g) * std::exp(log_spread);
}

/// As a function object, for `with_element`.
struct Draw {
  template <typename D, typename... Arguments>
  double operator()(const D& distribution, Arguments&&... arguments) const {
    return draw(distribution, std::forward<Arguments>(arguments)...);
  }
};

template <typename D>
Tensor draw_elements(const D& distribution, Generator& g) {
  const Parameters list = parameters(distribution);
  Tensor result = widest(list);
  for (std::size_t i = 0; i < result.data.size(); ++i) {
    result.data[i] = with_element(Draw{}, distribution, list, i, g);
  }
  return result;
}

Tensor draw_elements(const Categorical& distribution, Generator& g) {
  const Tensor& probs = distribution.probs;
  Tensor result;
  std::size_t width = probs.data.size();
  if (!probs.shape.empty()) {
    width = static_cast<std::size_t>(probs.shape.back());
    result.shape.assign(probs.shape.begin(), probs.shape.end() - 1);
  }
  for (std::size_t row = 0; row < probs.data.size(); row += width) {
    result.data.push_back(categorical(probs.data.data() + row, width, g));
  }
  return result;
}

}  // namespace

double draw_scalar(const Distribution& distribution, Generator& generator) {
  return std::visit(
      [&generator](const auto& d) {
        if constexpr (std::is_same_v<std::decay_t<decltype(d)>, Categorical>) {
          return categorical(d.probs.data.data(), d.probs.data.size(), generator);
        } else {
          return with_element(Draw{}, d, parameters(d), 0, generator);
        }
      },
      distribution);
}

Tensor draw_tensor(const Distribution& distribution, Generator& generator) {
  return std::visit([&generator](const auto& d) { return draw_elements(d, generator); }, distribution);
}

}  // namespace ppx::detail
