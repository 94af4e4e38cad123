// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include <cmath>
#include <string>

#include "draw.hpp"
#include "parameters.hpp"

namespace ppx::detail {
namespace {

[[noreturn]] void fail(const Distribution& distribution, const std::string& what) {
  throw ParameterError("ppx: " + std::string(distribution_name(distribution)) + ": " + what);
}

/// A test of one value against a domain, and the domain in words.
struct Domain {
  bool (*contains)(double);
  const char* words;
};

constexpr Domain finite = {[](double x) { return std::isfinite(x); }, "finite"};
constexpr Domain positive = {[](double x) { return std::isfinite(x) && x > 0.0; }, "finite and > 0"};
constexpr Domain not_negative = {[](double x) { return std::isfinite(x) && x >= 0.0; }, "finite and >= 0"};
constexpr Domain probability = {[](double x) { return x >= 0.0 && x <= 1.0; }, "in [0, 1]"};
// Above 2^53 doubles no longer hold every integer.
constexpr Domain count = {[](double x) { return x >= 0.0 && x <= 0x1p53 && x == std::floor(x); },
                          "an integer in [0, 2^53]"};

using Domains = std::array<Domain, 2>;

Domains domains(const Distribution& distribution) {
  struct Visitor {
    Domains operator()(const Normal&) const { return {finite, positive}; }
    Domains operator()(const Uniform&) const { return {finite, finite}; }
    Domains operator()(const Categorical&) const { return {not_negative, finite}; }
    Domains operator()(const Poisson&) const { return {not_negative, finite}; }
    Domains operator()(const Bernoulli&) const { return {probability, finite}; }
    Domains operator()(const Beta&) const { return {positive, positive}; }
    Domains operator()(const Exponential&) const { return {positive, finite}; }
    Domains operator()(const Gamma&) const { return {positive, positive}; }
    Domains operator()(const LogNormal&) const { return {finite, positive}; }
    Domains operator()(const Binomial&) const { return {count, probability}; }
    Domains operator()(const Weibull&) const { return {positive, positive}; }
  };
  return std::visit(Visitor{}, distribution);
}

void check_domain(const Distribution& distribution, const Parameter& parameter, const Domain& domain) {
  if (parameter.value->data.empty()) fail(distribution, std::string(parameter.name) + " is empty, expected a value");
  for (const double x : parameter.value->data) {
    if (!domain.contains(x)) {
      fail(distribution, std::string(parameter.name) + " must be " + domain.words + ", found " + std::to_string(x));
    }
  }
}

void check_sizes(const Distribution& distribution, const Parameters& list) {
  if (list.count < 2) return;
  const std::size_t first = list.items[0].value->data.size();
  const std::size_t second = list.items[1].value->data.size();
  if (first != second && first != 1 && second != 1) {
    fail(distribution, std::string(list.items[0].name) + " has " + std::to_string(first) + " elements and " +
                           list.items[1].name + " has " + std::to_string(second) +
                           "; expected the same number, or one");
  }
}

void check_order(const Distribution& distribution, const Uniform& uniform) {
  const auto& low = uniform.low.data;
  const auto& high = uniform.high.data;
  const std::size_t size = std::max(low.size(), high.size());
  for (std::size_t i = 0; i < size; ++i) {
    const double a = low[low.size() == 1 ? 0 : i];
    const double b = high[high.size() == 1 ? 0 : i];
    if (!(a < b)) fail(distribution, "low must be < high, found " + std::to_string(a) + " and " + std::to_string(b));
  }
}

void check_rows(const Distribution& distribution, const Categorical& categorical) {
  const Tensor& probs = categorical.probs;
  const std::size_t width = probs.shape.empty() ? probs.data.size() : static_cast<std::size_t>(probs.shape.back());
  for (std::size_t row = 0; row < probs.data.size(); row += width) {
    double sum = 0.0;
    for (std::size_t i = 0; i < width; ++i) sum += probs.data[row + i];
    if (!(sum > 0.0) || !std::isfinite(sum)) fail(distribution, "probs must have a finite sum > 0");
  }
}

}  // namespace

void check_parameters(const Distribution& distribution) {
  const Parameters list = parameters(distribution);
  const Domains allowed = domains(distribution);
  for (std::size_t i = 0; i < list.count; ++i) check_domain(distribution, list.items[i], allowed[i]);
  check_sizes(distribution, list);
  if (const auto* uniform = std::get_if<Uniform>(&distribution)) check_order(distribution, *uniform);
  if (const auto* categorical = std::get_if<Categorical>(&distribution)) check_rows(distribution, *categorical);
}

void check_scalar_parameters(const Distribution& distribution) {
  check_parameters(distribution);
  if (const auto* categorical = std::get_if<Categorical>(&distribution)) {
    const Tensor& probs = categorical->probs;
    if (!probs.shape.empty() && static_cast<std::size_t>(probs.shape.back()) != probs.data.size()) {
      fail(distribution, "a sample statement draws one value, expected one row of probs");
    }
    return;
  }
  for (const Parameter& parameter : parameters(distribution)) {
    if (parameter.value->data.size() != 1) {
      fail(distribution, std::string("a sample statement draws one value, expected one datum in ") + parameter.name +
                             ", found " + std::to_string(parameter.value->data.size()));
    }
  }
}

}  // namespace ppx::detail
