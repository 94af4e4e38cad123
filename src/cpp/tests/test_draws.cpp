// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Local sampling of the distributions: comparison with exact moments, with tolerances from the Monte Carlo error.
#include <cmath>
#include <limits>
#include <map>

#include "check.hpp"
#include "draw.hpp"

namespace {

using namespace ppx;
using detail::Generator;

constexpr int draws = 40000;
constexpr double sigmas = 5.0;  // two-sided 6e-7 per check; the seeds are fixed

struct Moments {
  double mean, variance;
};

Moments gamma_function_moments(double m1, double m2) { return {m1, m2 - m1 * m1}; }

/// Mean and variance within `sigmas` standard errors; the error of the variance is computed from the fourth moment of
/// the sample.
void check_moments(const Distribution& distribution, const Moments& exact, std::uint64_t seed) {
  Generator generator(seed);
  std::vector<double> values(draws);
  double mean = 0.0;
  for (double& value : values) {
    value = detail::draw_scalar(distribution, generator);
    mean += value / draws;
  }
  double variance = 0.0;
  double fourth = 0.0;
  for (const double value : values) {
    const double square = (value - exact.mean) * (value - exact.mean);
    variance += square / draws;
    fourth += square * square / draws;
  }
  const std::string label = std::string(distribution_name(distribution)) + " (mean " + std::to_string(exact.mean) + ")";
  const double mean_error = sigmas * std::sqrt(exact.variance / draws);
  const double variance_error = sigmas * std::sqrt(std::max(0.0, fourth - exact.variance * exact.variance) / draws);
  if (!(std::abs(mean - exact.mean) <= mean_error)) {
    check_failed(__FILE__, __LINE__, label + ": mean " + std::to_string(mean));
  }
  if (!(std::abs(variance - exact.variance) <= variance_error + 1e-12)) {
    check_failed(__FILE__, __LINE__,
                 label + ": variance " + std::to_string(variance) + ", expected " + std::to_string(exact.variance));
  }
}

void normal() { check_moments(Normal{1.0, 2.0}, {1.0, 4.0}, 1); }

void uniform() {
  check_moments(Uniform{-1.0, 3.0}, {1.0, 16.0 / 12.0}, 2);
  Generator generator(3);
  const double next = std::nextafter(1.0, 2.0);
  for (int i = 0; i < 1000; ++i) CHECK(detail::draw_scalar(Uniform{1.0, next}, generator) < next);
}

void categorical() {
  const std::vector<double> weights = {1.0, 0.0, 3.0, 4.0};  // not normalised, one of them zero
  const Categorical distribution{{weights, {4}}};
  Generator generator(4);
  std::map<double, int> counts;
  for (int i = 0; i < draws; ++i) ++counts[detail::draw_scalar(distribution, generator)];
  CHECK_EQUAL(counts.size(), std::size_t{3});
  for (std::size_t k = 0; k < weights.size(); ++k) {
    const double p = weights[k] / 8.0;
    const double error = sigmas * std::sqrt(p * (1.0 - p) / draws);
    CHECK(std::abs(static_cast<double>(counts[static_cast<double>(k)]) / draws - p) <= error);
  }
}

void poisson() {
  for (const double rate : {0.3, 4.0, 9.99, 10.0, 57.5, 1e4}) check_moments(Poisson{rate}, {rate, rate}, 5);
  Generator generator(6);
  CHECK_EQUAL(detail::draw_scalar(Poisson{0.0}, generator), 0.0);
}

void bernoulli() { check_moments(Bernoulli{0.25}, {0.25, 0.1875}, 7); }

void beta() {
  for (const auto& [a, b] : std::vector<std::pair<double, double>>{{2.0, 3.0}, {0.5, 0.5}, {0.1, 4.0}, {30.0, 2.0}}) {
    check_moments(Beta{a, b}, {a / (a + b), a * b / ((a + b) * (a + b) * (a + b + 1.0))}, 8);
  }
  Generator generator(9);
  for (int i = 0; i < 2000; ++i) {  // both gamma draws underflow; the value must still be in the support
    const double x = detail::draw_scalar(Beta{1e-3, 1e-3}, generator);
    CHECK(x > 0.0 && x < 1.0);
  }
}

void exponential() { check_moments(Exponential{0.5}, {2.0, 4.0}, 10); }

void gamma_by_concentration() {
  for (const double a : {0.2, 1.0, 3.0, 50.0}) check_moments(Gamma{a, 2.0}, {a / 2.0, a / 4.0}, 11);
}

void lognormal() {
  const double s2 = 0.25;
  const double mean = std::exp(0.1 + s2 / 2.0);
  check_moments(LogNormal{0.1, 0.5}, {mean, mean * mean * (std::exp(s2) - 1.0)}, 12);
}

void binomial() {
  for (const auto& [n, p] : std::vector<std::pair<double, double>>{
           {10.0, 0.3}, {10.0, 0.9}, {400.0, 0.01}, {100.0, 0.5}, {1000.0, 0.85}, {1e6, 0.001}}) {
    check_moments(Binomial{n, p}, {n * p, n * p * (1.0 - p)}, 13);
  }
  Generator generator(14);
  CHECK_EQUAL(detail::draw_scalar(Binomial{10.0, 0.0}, generator), 0.0);
  CHECK_EQUAL(detail::draw_scalar(Binomial{10.0, 1.0}, generator), 10.0);
  CHECK_EQUAL(detail::draw_scalar(Binomial{0.0, 0.5}, generator), 0.0);
}

void weibull() {
  const double k = 1.5;
  check_moments(Weibull{2.0, k},
                gamma_function_moments(2.0 * std::tgamma(1.0 + 1.0 / k), 4.0 * std::tgamma(1.0 + 2.0 / k)), 15);
}

void negative_binomial() {
  for (const auto& [r, p] : std::vector<std::pair<double, double>>{{2.5, 0.6}, {0.3, 0.9}, {40.0, 0.2}}) {
    const double mean = r * p / (1.0 - p);
    check_moments(NegativeBinomial{r, p}, {mean, mean / (1.0 - p)}, 18);
  }
  Generator generator(19);
  CHECK_EQUAL(detail::draw_scalar(NegativeBinomial{3.0, 0.0}, generator), 0.0);
}

void student_t() {
  check_moments(StudentT{9.0, 1.0, 2.0}, {1.0, 4.0 * 9.0 / 7.0}, 20);
  Generator generator(21);  // of a Cauchy distribution, half of the mass is between -1 and 1
  int inside = 0;
  for (int i = 0; i < draws; ++i) inside += std::abs(detail::draw_scalar(StudentT{1.0, 0.0, 1.0}, generator)) < 1.0;
  CHECK(std::abs(inside - draws / 2) < sigmas * std::sqrt(draws / 4.0));
}

/// The whole distribution: a chi-square test with the exact mass, with enough draws to detect a wrong constant in the
/// acceptance test of a rejection sampler.
void check_mass(const Distribution& distribution, const std::function<double(int)>& log_mass, int low, int high) {
  constexpr int many = 1000000;
  Generator generator(16);
  std::vector<double> counts(static_cast<std::size_t>(high - low + 2), 0.0);
  for (int i = 0; i < many; ++i) {
    const int k = static_cast<int>(detail::draw_scalar(distribution, generator));
    ++counts[k < low || k > high ? counts.size() - 1 : static_cast<std::size_t>(k - low)];
  }
  double rest = many;
  double chi_square = 0.0;
  for (int k = low; k <= high; ++k) {
    const double expected = many * std::exp(log_mass(k));
    const double found = counts[static_cast<std::size_t>(k - low)];
    chi_square += (found - expected) * (found - expected) / expected;
    rest -= expected;
  }
  chi_square += (counts.back() - rest) * (counts.back() - rest) / rest;
  const double degrees = high - low + 1;
  if (chi_square > degrees + sigmas * std::sqrt(2.0 * degrees)) {
    check_failed(__FILE__, __LINE__,
                 std::string(distribution_name(distribution)) + ": chi-square " + std::to_string(chi_square) + " for " +
                     std::to_string(degrees) + " degrees of freedom");
  }
}

void check_poisson_mass(double rate) {
  const int spread = static_cast<int>(3.5 * std::sqrt(rate));
  const int middle = static_cast<int>(rate);
  check_mass(
      Poisson{rate}, [rate](int k) { return k * std::log(rate) - rate - std::lgamma(k + 1.0); },
      std::max(0, middle - spread), middle + spread);
}

void check_binomial_mass(int n, double p) {
  const int spread = static_cast<int>(3.5 * std::sqrt(n * p * (1.0 - p)));
  const int middle = static_cast<int>(n * p);
  const auto log_mass = [n, p](int k) {
    return std::lgamma(n + 1.0) - std::lgamma(k + 1.0) - std::lgamma(n - k + 1.0) + k * std::log(p) +
           (n - k) * std::log1p(-p);
  };
  check_mass(Binomial{static_cast<double>(n), p}, log_mass, middle - spread, middle + spread);
}

void rejection_samplers_follow_the_exact_mass() {
  for (const double rate : {10.0, 20.0, 150.0}) check_poisson_mass(rate);
  check_binomial_mass(50, 0.4);
  check_binomial_mass(1000, 0.7);
}

void tensors() {
  Generator generator(17);
  const Tensor draw = detail::draw_tensor(Normal{{{0.0, 100.0, 200.0}, {3}}, 1.0}, generator);
  CHECK_EQUAL(draw.data.size(), std::size_t{3});
  CHECK_EQUAL(draw.shape.at(0), 3);
  CHECK(std::abs(draw.data[1] - 100.0) < 10.0 && std::abs(draw.data[2] - 200.0) < 10.0);
  const Tensor rows = detail::draw_tensor(Categorical{{{1, 0, 0, 1}, {2, 2}}}, generator);
  CHECK(rows.data == (std::vector<double>{0.0, 1.0}));
  CHECK(rows.shape == (std::vector<std::int32_t>{2}));
  CHECK_EQUAL(detail::draw_tensor(Poisson{3.0}, generator).shape.size(), std::size_t{0});
}

void bad_parameters_are_named() {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK_ERROR(ParameterError, sample(Normal{0.0, 0.0}), "Normal", "stddev", "> 0");
  CHECK_ERROR(ParameterError, sample(Normal{nan, 1.0}), "mean", "finite");
  CHECK_ERROR(ParameterError, sample(Uniform{1.0, 1.0}), "Uniform", "low must be < high");
  CHECK_ERROR(ParameterError, sample(Categorical{{{0.0, 0.0}, {2}}}), "Categorical", "sum");
  CHECK_ERROR(ParameterError, sample(Categorical{{{1, 1, 1, 1}, {2, 2}}}), "one row");
  CHECK_ERROR(ParameterError, sample(Bernoulli{1.5}), "Bernoulli", "[0, 1]");
  CHECK_ERROR(ParameterError, sample(Binomial{2.5, 0.5}), "total_count", "integer");
  CHECK_ERROR(ParameterError, sample(Poisson{-1.0}), "rate");
  CHECK_ERROR(ParameterError, sample(NegativeBinomial{2.0, 1.0}), "probs", "[0, 1)");
  CHECK_ERROR(ParameterError, sample(NegativeBinomial{1e10, 1.0 - 1e-10}), "mean", "2^53");
  CHECK_ERROR(ParameterError, sample(StudentT{0.0, 0.0, 1.0}), "df", "> 0");
  CHECK_ERROR(ParameterError, sample(Normal{Tensor{}, 1.0}), "mean is empty");
  CHECK_ERROR(ParameterError, sample(Normal{{{1.0, 2.0}, {2}}, 1.0}), "one datum", "mean");
  CHECK_ERROR(std::invalid_argument, Tensor({1.0, 2.0}, {3}), "3", "2");
}

void the_generator_is_the_published_one() {
  // xoshiro256++ seeded by splitmix64 of 0: the first two outputs of the reference C code.
  Generator generator(0);
  CHECK_EQUAL(generator.next(), std::uint64_t{0x53175d61490b23df});
  CHECK_EQUAL(generator.next(), std::uint64_t{0x61da6f3dc380d507});
}

}  // namespace

int main() {
  return run_tests({{"normal", normal},
                    {"uniform", uniform},
                    {"categorical", categorical},
                    {"poisson", poisson},
                    {"bernoulli", bernoulli},
                    {"beta", beta},
                    {"exponential", exponential},
                    {"gamma", gamma_by_concentration},
                    {"lognormal", lognormal},
                    {"binomial", binomial},
                    {"weibull", weibull},
                    {"negative binomial", negative_binomial},
                    {"student t", student_t},
                    {"rejection samplers follow the exact mass", rejection_samplers_follow_the_exact_mass},
                    {"tensors", tensors},
                    {"bad parameters are named", bad_parameters_are_named},
                    {"the generator is the published one", the_generator_is_the_published_one}});
}
