// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Log densities: comparison with closed forms, sums and integrals; digests of supports.
#include <cmath>
#include <functional>
#include <limits>
#include <set>

#include "check.hpp"
#include "log_prob.hpp"

namespace {

using namespace ppx;
using detail::log_prob;

constexpr double minus_infinity = -std::numeric_limits<double>::infinity();

void check_close(double found, double expected, double tolerance, const std::string& what) {
  if (!(std::abs(found - expected) <= tolerance)) {
    check_failed(__FILE__, __LINE__,
                 what + ": expected " + std::to_string(expected) + ", found " + std::to_string(found));
  }
}

/// Integral over (low, high) by the tanh-sinh rule of Takahasi and Mori (1974), which tolerates singular end points.
double integral(double low, double high, const std::function<double(double)>& f) {
  const double step = 1.0 / 64.0;
  const double half_pi = std::acos(0.0);
  double sum = 0.0;
  for (double t = -4.5; t <= 4.5; t += step) {
    const double u = half_pi * std::sinh(t);
    const double x = low + (high - low) / (1.0 + std::exp(-2.0 * u));
    if (!(x > low && x < high)) continue;
    const double weight = half_pi * std::cosh(t) / (std::cosh(u) * std::cosh(u));
    sum += weight * f(x);
  }
  return 0.5 * (high - low) * step * sum;
}

void densities_integrate_to_one() {
  struct Case {
    Distribution distribution;
    double low, high;  // contain all but 1e-12 of the mass
  };
  const std::vector<Case> cases = {
      {Normal{1.0, 2.0}, -19.0, 21.0}, {Uniform{-1.0, 3.0}, -1.0, 3.0},         {Beta{2.0, 3.0}, 0.0, 1.0},
      {Beta{1.5, 0.7}, 0.0, 1.0},      {Exponential{0.5}, 0.0, 80.0},           {Gamma{3.0, 2.0}, 0.0, 40.0},
      {Gamma{0.6, 1.0}, 0.0, 60.0},    {LogNormal{0.1, 0.5}, 0.0, 100.0},       {Weibull{2.0, 1.5}, 0.0, 40.0},
      {Weibull{0.3, 0.8}, 0.0, 40.0},  {StudentT{30.0, 1.0, 2.0}, -31.0, 33.0},
  };
  for (const Case& c : cases) {
    const double mass = integral(c.low, c.high, [&](double x) { return std::exp(log_prob(c.distribution, x)); });
    check_close(mass, 1.0, 2e-6, std::string(distribution_name(c.distribution)));
  }
}

void masses_sum_to_one() {
  const std::vector<Distribution> cases = {Categorical{{{1.0, 0.0, 3.0, 4.0}, {4}}},
                                           Poisson{4.0},
                                           Poisson{0.0},
                                           Bernoulli{0.25},
                                           Bernoulli{1.0},
                                           Binomial{10.0, 0.3},
                                           Binomial{7.0, 0.0},
                                           Binomial{7.0, 1.0},
                                           NegativeBinomial{1.5, 0.3},
                                           NegativeBinomial{4.0, 0.0}};
  for (const Distribution& distribution : cases) {
    double mass = 0.0;
    for (int x = -2; x < 60; ++x) {
      mass += std::exp(log_prob(distribution, static_cast<double>(x)));
      CHECK_EQUAL(log_prob(distribution, x + 0.5), minus_infinity);
    }
    check_close(mass, 1.0, 1e-12, std::string(distribution_name(distribution)));
  }
}

void densities_are_the_closed_forms() {
  const double pi = std::acos(-1.0);
  check_close(log_prob(Normal{1.0, 2.0}, 4.0), -1.125 - std::log(2.0 * std::sqrt(2.0 * pi)), 1e-14, "Normal");
  check_close(log_prob(Uniform{-1.0, 3.0}, 0.5), -std::log(4.0), 1e-15, "Uniform");
  check_close(log_prob(Categorical{{{1.0, 0.0, 3.0}, {3}}}, 2.0), std::log(0.75), 1e-15, "Categorical");
  check_close(log_prob(Poisson{4.0}, 3.0), std::log(64.0 / 6.0) - 4.0, 1e-14, "Poisson");
  check_close(log_prob(Bernoulli{0.25}, 0.0), std::log(0.75), 1e-15, "Bernoulli");
  check_close(log_prob(Beta{2.0, 3.0}, 0.25), std::log(12.0 * 0.25 * 0.75 * 0.75), 1e-14, "Beta");
  check_close(log_prob(Exponential{0.5}, 3.0), std::log(0.5) - 1.5, 1e-15, "Exponential");
  check_close(log_prob(Gamma{3.0, 2.0}, 1.5), std::log(8.0 * 2.25 / 2.0) - 3.0, 1e-14, "Gamma");
  check_close(log_prob(LogNormal{0.0, 1.0}, std::exp(1.0)), -0.5 - 0.5 * std::log(2.0 * pi) - 1.0, 1e-14, "LogNormal");
  check_close(log_prob(Binomial{4.0, 0.25}, 1.0), std::log(4.0 * 0.25 * 27.0 / 64.0), 1e-14, "Binomial");
  check_close(log_prob(NegativeBinomial{2.0, 0.25}, 3.0), std::log(4.0 * 0.75 * 0.75 / 64.0), 1e-14,
              "NegativeBinomial");
  check_close(log_prob(StudentT{1.0, 1.0, 2.0}, 5.0), -std::log(2.0 * pi * 5.0), 1e-14, "StudentT");
  check_close(log_prob(StudentT{1e12, 1.0, 2.0}, 4.0), log_prob(Normal{1.0, 2.0}, 4.0), 1e-11, "a normal StudentT");
  check_close(log_prob(StudentT{1.0, 0.0, 1.0}, 1e200), -std::log(pi) - 400.0 * std::log(10.0), 1e-11, "its tail");
  check_close(log_prob(Weibull{2.0, 3.0}, 1.0), std::log(1.5 * 0.25) - 0.125, 1e-14, "Weibull");
}

void outside_of_the_support_the_density_is_zero() {
  const std::vector<std::pair<Distribution, std::vector<double>>> cases = {
      {Uniform{-1.0, 3.0}, {std::nextafter(-1.0, -2.0), std::nextafter(3.0, 4.0)}},
      {Categorical{{{1.0, 0.0}, {2}}}, {-1.0, 1.0, 2.0}},
      {Poisson{4.0}, {-1.0, 1.5, std::numeric_limits<double>::infinity()}},
      {Bernoulli{1.0}, {0.0, 2.0, -1.0}},
      {Beta{2.0, 3.0}, {0.0, 1.0, -1e-300, 1.1}},
      {Exponential{1.0}, {-1e-300}},
      {Gamma{2.0, 1.0}, {0.0, -1.0}},
      {LogNormal{0.0, 1.0}, {0.0, -1.0, std::numeric_limits<double>::infinity()}},
      {Binomial{4.0, 0.5}, {-1.0, 5.0, 0.5}},
      {Weibull{1.0, 2.0}, {0.0, -1.0}},
      {NegativeBinomial{2.0, 0.5}, {-1.0, 0.5, std::numeric_limits<double>::infinity()}},
  };
  for (const auto& [distribution, values] : cases) {
    for (const double x : values) CHECK_EQUAL(log_prob(distribution, x), minus_infinity);
  }
  // at the ends of the support: the limits
  CHECK_EQUAL(log_prob(Uniform{-1.0, 3.0}, 3.0), -std::log(4.0));
  CHECK_EQUAL(log_prob(Exponential{1.0}, 0.0), 0.0);
  CHECK_EQUAL(log_prob(Gamma{1.0, 1.0}, 0.0), 0.0);
  CHECK_EQUAL(log_prob(Gamma{0.5, 1.0}, 0.0), -minus_infinity);
  CHECK_EQUAL(log_prob(Beta{0.5, 1.0}, 0.0), -minus_infinity);
  CHECK_EQUAL(log_prob(Beta{1.0, 1.0}, 1.0), 0.0);
}

void arrays_have_the_sum_of_their_elements() {
  const std::vector<double> mean = {0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, -1.0};
  const std::vector<double> x = {0.5, 1.0, -2.0, 3.0, 4.5, 5.0, 6.0, 7.5, 8.0, 9.25, 1.0};
  double sum = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += log_prob(Normal{mean[i], 0.7}, x[i]);
  const auto size = static_cast<std::int32_t>(x.size());
  const Tensor value{x, {size}};
  check_close(log_prob(Normal{{mean, {size}}, 0.7}, value), sum, 1e-12, "an image");
  const Tensor stddevs{std::vector<double>(x.size(), 0.7), {size}};
  check_close(log_prob(Normal{{mean, {size}}, stddevs}, value), sum, 1e-12, "a deviation for each");
  double centred = 0.0;
  for (const double element : x) centred += log_prob(Normal{0.5, 0.7}, element);
  check_close(log_prob(Normal{0.5, stddevs}, value), centred, 1e-12, "one mean");
  const Categorical rows{{{0.25, 0.75, 0.5, 0.5}, {2, 2}}};
  check_close(log_prob(rows, Tensor{{1.0, 0.0}, {2}}), std::log(0.375), 1e-14, "rows of categories");
  CHECK(detail::draw_shape(rows) == std::vector<std::int32_t>{2});
  CHECK(detail::draw_shape(Normal{0.5, stddevs}) == std::vector<std::int32_t>{size});
  CHECK(detail::draw_shape(Poisson{3.0}).empty());
}

void supports_have_digests() {
  const auto digest = [](const Distribution& d) { return detail::support_digest(d); };
  CHECK_EQUAL(digest(Normal{0.0, 1.0}), digest(Normal{5.0, 0.1}));
  CHECK_EQUAL(digest(Gamma{2.0, 1.0}), digest(Gamma{1.0, 3.0}));
  CHECK_EQUAL(digest(Binomial{4.0, 0.5}), digest(Binomial{4.0, 0.1}));
  CHECK_EQUAL(digest(Categorical{{{1.0, 2.0}, {2}}}), digest(Categorical{{{0.0, 1.0}, {2}}}));
  CHECK_EQUAL(digest(Uniform{0.0, 1.0}), digest(Uniform{-0.0, 1.0}));
  const std::vector<Distribution> different = {Normal{0.0, 1.0},       Uniform{0.0, 1.0},
                                               Uniform{0.0, 2.0},      Uniform{1.0, 2.0},
                                               Uniform{-1.0, 0.0},     Uniform{-1.0, 1.0},
                                               Poisson{1.0},           Categorical{{{1.0, 2.0}, {2}}},
                                               Bernoulli{0.5},         Beta{1.0, 1.0},
                                               Exponential{1.0},       Categorical{{{1.0, 2.0, 3.0}, {3}}},
                                               Gamma{1.0, 1.0},        LogNormal{0.0, 1.0},
                                               Binomial{4.0, 0.5},     Binomial{5.0, 0.5},
                                               Weibull{1.0, 1.0},      NegativeBinomial{1.0, 0.5},
                                               StudentT{1.0, 0.0, 1.0}};
  std::set<std::uint64_t> digests;
  for (const Distribution& distribution : different) digests.insert(digest(distribution));
  CHECK_EQUAL(digests.size(), different.size());
}

}  // namespace

int main() {
  return run_tests({
      {"densities integrate to one", densities_integrate_to_one},
      {"masses sum to one", masses_sum_to_one},
      {"densities are the closed forms", densities_are_the_closed_forms},
      {"outside of the support the density is zero", outside_of_the_support_the_density_is_zero},
      {"arrays have the sum of their elements", arrays_have_the_sum_of_their_elements},
      {"supports have digests", supports_have_digests},
  });
}
