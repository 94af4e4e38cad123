// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include "log_prob.hpp"

#include <cmath>
#include <cstring>
#include <limits>

#include "parameters.hpp"

namespace ppx::detail {
namespace {

constexpr double minus_infinity = -std::numeric_limits<double>::infinity();
constexpr double half_log_two_pi = 0.91893853320467274178;

bool whole(double x) { return std::isfinite(x) && x == std::floor(x); }

/// lgamma that does not write the global `signgam`.
double log_gamma(double x) {
  int sign = 0;
  return ::lgamma_r(x, &sign);
}

/// x log y, and 0 if x is 0.
double x_log_y(double x, double y) { return x == 0.0 ? 0.0 : x * std::log(y); }
double x_log1p_y(double x, double y) { return x == 0.0 ? 0.0 : x * std::log1p(y); }

double density(const Normal&, double mean, double stddev, double x) {
  const double z = (x - mean) / stddev;
  return -0.5 * z * z - half_log_two_pi - std::log(stddev);
}
double density(const Uniform&, double low, double high, double x) {
  return x >= low && x <= high ? -std::log(high - low) : minus_infinity;
}
double density(const Poisson&, double rate, double, double x) {
  if (x < 0.0 || !whole(x)) return minus_infinity;
  if (rate == 0.0) return x == 0.0 ? 0.0 : minus_infinity;
  return x * std::log(rate) - rate - log_gamma(x + 1.0);
}
double density(const Bernoulli&, double p, double, double x) {
  const double mass = x == 1.0 ? p : x == 0.0 ? 1.0 - p : 0.0;
  return mass > 0.0 ? std::log(mass) : minus_infinity;
}
double density(const Beta&, double a, double b, double x) {
  if (!(x >= 0.0 && x <= 1.0)) return minus_infinity;
  return x_log_y(a - 1.0, x) + x_log1p_y(b - 1.0, -x) - (log_gamma(a) + log_gamma(b) - log_gamma(a + b));
}
double density(const Exponential&, double rate, double, double x) {
  return x >= 0.0 ? std::log(rate) - rate * x : minus_infinity;
}
double density(const Gamma&, double a, double rate, double x) {
  return x >= 0.0 ? a * std::log(rate) + x_log_y(a - 1.0, x) - rate * x - log_gamma(a) : minus_infinity;
}
double density(const LogNormal&, double loc, double scale, double x) {
  if (!(x > 0.0) || std::isinf(x)) return minus_infinity;
  const double log_x = std::log(x);
  const double z = (log_x - loc) / scale;
  return -0.5 * z * z - half_log_two_pi - std::log(scale) - log_x;
}
double density(const Binomial&, double n, double p, double x) {
  if (!whole(x) || x < 0.0 || x > n) return minus_infinity;
  return log_gamma(n + 1.0) - log_gamma(x + 1.0) - log_gamma(n - x + 1.0) + x_log_y(x, p) + x_log1p_y(n - x, -p);
}
double density(const Weibull&, double scale, double k, double x) {
  if (!(x >= 0.0)) return minus_infinity;
  const double z = x / scale;
  return std::log(k / scale) + x_log_y(k - 1.0, z) - std::pow(z, k);
}

double density(const NegativeBinomial&, double r, double p, double x) {
  if (x < 0.0 || !whole(x)) return minus_infinity;
  return log_gamma(x + r) - log_gamma(r) - log_gamma(x + 1.0) + r * std::log1p(-p) + x_log_y(x, p);
}
/// log Gamma((df + 1) / 2) - log Gamma(df / 2); by its series where the difference would cancel.
double log_gamma_ratio(double df) {
  constexpr double large_df = 1000.0;
  if (df < large_df) return log_gamma(0.5 * (df + 1.0)) - log_gamma(0.5 * df);
  return 0.5 * std::log(0.5 * df) - 1.0 / (4.0 * df) + 1.0 / (24.0 * df * df * df);
}
double density(const StudentT&, double df, double loc, double scale, double x) {
  constexpr double huge = 1e150;  // the square of a larger number may overflow
  constexpr double pi = 3.141592653589793238462643383279502884;
  const double z = std::abs(x - loc) / scale;
  const double log_tail = z < huge ? std::log1p(z * z / df) : 2.0 * std::log(z) - std::log(df);
  return log_gamma_ratio(df) - 0.5 * std::log(df * pi) - std::log(scale) - 0.5 * (df + 1.0) * log_tail;
}

/// As a function object, for `with_element`.
struct Density {
  template <typename... Arguments>
  double operator()(const Arguments&... arguments) const {
    return density(arguments...);
  }
};

double categorical(const double* probs, std::size_t width, double x) {
  if (!whole(x) || x < 0.0 || x >= static_cast<double>(width)) return minus_infinity;
  double sum = 0.0;
  for (std::size_t i = 0; i < width; ++i) sum += probs[i];
  const double mass = probs[static_cast<std::size_t>(x)];
  return mass > 0.0 ? std::log(mass / sum) : minus_infinity;
}

/// An array of means with one standard deviation, the usual likelihood of a detector: eight independent sums, because
/// the additions of a single one would depend on each other.
double normal_image(const std::vector<double>& mean, double stddev, const std::vector<double>& x) {
  constexpr std::size_t lanes = 8;
  double sums[lanes] = {};
  const std::size_t size = mean.size();
  std::size_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    for (std::size_t k = 0; k < lanes; ++k) {
      const double residual = x[i + k] - mean[i + k];
      sums[k] += residual * residual;
    }
  }
  double sum = 0.0;
  for (; i < size; ++i) sum += (x[i] - mean[i]) * (x[i] - mean[i]);
  for (const double part : sums) sum += part;
  return -0.5 * sum / (stddev * stddev) - static_cast<double>(size) * (std::log(stddev) + half_log_two_pi);
}

template <typename D>
double sum_of_densities(const D& distribution, const Tensor& value) {
  const Parameters list = parameters(distribution);
  if constexpr (std::is_same_v<D, Normal>) {
    if (distribution.mean.data.size() == value.data.size() && distribution.stddev.data.size() == 1) {
      return normal_image(distribution.mean.data, distribution.stddev.data[0], value.data);
    }
  }
  double sum = 0.0;
  for (std::size_t i = 0; i < value.data.size(); ++i) {
    sum += with_element(Density{}, distribution, list, i, value.data[i]);
  }
  return sum;
}

std::size_t categories(const Categorical& distribution) {
  const Tensor& probs = distribution.probs;
  return probs.shape.empty() ? probs.data.size() : static_cast<std::size_t>(probs.shape.back());
}

double sum_of_densities(const Categorical& distribution, const Tensor& value) {
  const std::size_t width = categories(distribution);
  const double* row = distribution.probs.data.data();
  double sum = 0.0;
  for (std::size_t i = 0; i < value.data.size(); ++i) sum += categorical(row + i * width, width, value.data[i]);
  return sum;
}

std::uint64_t mixed(std::uint64_t state, std::uint64_t word) {
  std::uint64_t z = state ^ (word + 0x9e3779b97f4a7c15U + (state << 6U) + (state >> 2U));
  z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31U);
}

std::uint64_t bits(double value) {
  std::uint64_t word = 0;
  value += 0.0;  // -0 and 0 are equal bounds
  std::memcpy(&word, &value, sizeof(word));
  return word;
}

}  // namespace

double log_prob(const Distribution& distribution, double value) {
  return std::visit(
      [value](const auto& d) {
        if constexpr (std::is_same_v<std::decay_t<decltype(d)>, Categorical>) {
          return categorical(d.probs.data.data(), d.probs.data.size(), value);
        } else {
          return with_element(Density{}, d, parameters(d), 0, value);
        }
      },
      distribution);
}

double log_prob(const Distribution& distribution, const Tensor& value) {
  return std::visit([&value](const auto& d) { return sum_of_densities(d, value); }, distribution);
}

std::vector<std::int32_t> draw_shape(const Distribution& distribution) {
  if (const auto* rows = std::get_if<Categorical>(&distribution)) {
    const auto& shape = rows->probs.shape;
    if (shape.empty()) return {};
    return {shape.begin(), shape.end() - 1};
  }
  return widest(parameters(distribution)).shape;
}

std::uint64_t support_digest(const Distribution& distribution) {
  std::uint64_t digest = mixed(0, distribution.index() + 1);
  if (const auto* uniform = std::get_if<Uniform>(&distribution)) {
    digest = mixed(mixed(digest, bits(uniform->low.data[0])), bits(uniform->high.data[0]));
  } else if (const auto* binomial = std::get_if<Binomial>(&distribution)) {
    digest = mixed(digest, bits(binomial->total_count.data[0]));
  } else if (const auto* categorical_ = std::get_if<Categorical>(&distribution)) {
    digest = mixed(digest, categorical_->probs.data.size());
  }
  return digest;
}

}  // namespace ppx::detail
