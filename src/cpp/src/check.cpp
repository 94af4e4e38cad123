// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include <cmath>
#include <string>

#include "draw.hpp"
#include "log_prob.hpp"
#include "parameters.hpp"

namespace ppx::detail {
namespace {

[[noreturn]] void fail(const Distribution& distribution, const std::string& what) {
  throw ParameterError("ppx: " + std::string(distribution_name(distribution)) + ": " + what);
}

/// The domain of a parameter.
enum class Domain { finite, positive, not_negative, probability, below_one, count };

const char* words(Domain domain) {
  switch (domain) {
    case Domain::finite:
      return "finite";
    case Domain::positive:
      return "finite and > 0";
    case Domain::not_negative:
      return "finite and >= 0";
    case Domain::probability:
      return "in [0, 1]";
    case Domain::below_one:
      return "in [0, 1)";
    case Domain::count:
      break;
  }
  return "an integer in [0, 2^53]";
}

template <Domain domain>
bool contains(double x) {
  if constexpr (domain == Domain::finite) return std::isfinite(x);
  if constexpr (domain == Domain::positive) return std::isfinite(x) && x > 0.0;
  if constexpr (domain == Domain::not_negative) return std::isfinite(x) && x >= 0.0;
  if constexpr (domain == Domain::probability) return x >= 0.0 && x <= 1.0;
  if constexpr (domain == Domain::below_one) return x >= 0.0 && x < 1.0;
  // Doubles above 2^53 do not represent every integer.
  if constexpr (domain == Domain::count) return x >= 0.0 && x <= 0x1p53 && x == std::floor(x);
}

template <Domain... domains>
struct Domains {};

/// The domains of each distribution's parameters, in the order of the schema.
Domains<Domain::finite, Domain::positive> domains(const Normal&) { return {}; }
Domains<Domain::finite, Domain::finite> domains(const Uniform&) { return {}; }
Domains<Domain::not_negative> domains(const Categorical&) { return {}; }
Domains<Domain::not_negative> domains(const Poisson&) { return {}; }
Domains<Domain::probability> domains(const Bernoulli&) { return {}; }
Domains<Domain::positive, Domain::positive> domains(const Beta&) { return {}; }
Domains<Domain::positive> domains(const Exponential&) { return {}; }
Domains<Domain::positive, Domain::positive> domains(const Gamma&) { return {}; }
Domains<Domain::finite, Domain::positive> domains(const LogNormal&) { return {}; }
Domains<Domain::count, Domain::probability> domains(const Binomial&) { return {}; }
Domains<Domain::positive, Domain::positive> domains(const Weibull&) { return {}; }

Domains<Domain::positive, Domain::below_one> domains(const NegativeBinomial&) { return {}; }
Domains<Domain::positive, Domain::finite, Domain::positive> domains(const StudentT&) { return {}; }

/// A tensor without a shape is a scalar or a vector.
bool has_its_shape(const Tensor& tensor) {
  if (tensor.shape.empty()) return true;
  std::size_t size = 1;
  for (const std::int32_t extent : tensor.shape) {
    if (extent < 0) return false;
    size *= static_cast<std::size_t>(extent);
  }
  return size == tensor.data.size();
}

// A separate loop for every domain, because an observe statement may have tens of thousands of parameters.
template <Domain domain>
void check_domain(const Distribution& distribution, const Parameter& parameter) {
  const auto& data = parameter.value->data;
  if (!has_its_shape(*parameter.value)) {
    fail(distribution, std::string(parameter.name) + " has " + std::to_string(data.size()) +
                           " elements, which are not those of its shape");
  }
  if (data.empty()) fail(distribution, std::string(parameter.name) + " is empty, expected a value");
  for (const double x : data) {
    if (!contains<domain>(x)) {
      fail(distribution, std::string(parameter.name) + " must be " + words(domain) + ", found " + std::to_string(x));
    }
  }
}

template <Domain... domains>
void check_domains(const Distribution& distribution, const Parameters& list, Domains<domains...>) {
  std::size_t i = 0;
  (check_domain<domains>(distribution, list.items[i++]), ...);
}

void check_sizes(const Distribution& distribution, const Parameters& list) {
  const Parameter* known = nullptr;  // one that has several elements
  for (const Parameter& parameter : list) {
    const std::size_t size = parameter.value->data.size();
    if (size == 1) continue;
    if (known != nullptr && known->value->data.size() != size) {
      fail(distribution, std::string(known->name) + " has " + std::to_string(known->value->data.size()) +
                             " elements and " + parameter.name + " has " + std::to_string(size) +
                             "; expected the same number, or one");
    }
    known = &parameter;
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

void check_mean(const Distribution& distribution, const Parameters& list) {
  const std::size_t size = widest(list).data.size();
  for (std::size_t i = 0; i < size; ++i) {
    const double p = element(list.items[1], i);
    const double mean = element(list.items[0], i) * p / (1.0 - p);
    if (!(mean <= 0x1p53)) fail(distribution, "the mean must be at most 2^53, found " + std::to_string(mean));
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

/// Fast path for the most frequent draw.
bool is_plain_uniform(const Distribution& distribution) {
  const auto* uniform = std::get_if<Uniform>(&distribution);
  if (uniform == nullptr || uniform->low.data.size() != 1 || uniform->high.data.size() != 1) return false;
  const double low = uniform->low.data[0];
  const double high = uniform->high.data[0];
  return std::isfinite(low) && std::isfinite(high) && low < high;
}

}  // namespace

void check_parameters(const Distribution& distribution) {
  const Parameters list = parameters(distribution);
  std::visit([&](const auto& d) { check_domains(distribution, list, domains(d)); }, distribution);
  check_sizes(distribution, list);
  if (const auto* uniform = std::get_if<Uniform>(&distribution)) check_order(distribution, *uniform);
  if (const auto* categorical = std::get_if<Categorical>(&distribution)) check_rows(distribution, *categorical);
  if (std::holds_alternative<NegativeBinomial>(distribution)) check_mean(distribution, list);
}

void check_scalar_parameters(const Distribution& distribution) {
  if (is_plain_uniform(distribution)) return;
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
                             ", found " + std::to_string(parameter.value->data.size()) +
                             "; use sample_tensor for several");
    }
  }
}

std::vector<std::int32_t> check_tensor_parameters(const Distribution& distribution) {
  check_parameters(distribution);
  std::vector<std::int32_t> shape = draw_shape(distribution);
  if (std::holds_alternative<Categorical>(distribution)) return shape;
  const Tensor& whole = widest(parameters(distribution));
  if (shape.empty() && whole.data.size() != 1) shape = {static_cast<std::int32_t>(whole.data.size())};
  for (const Parameter& parameter : parameters(distribution)) {
    if (parameter.value->data.size() != 1 && parameter.value->shape != whole.shape) {
      fail(distribution, std::string("the shape of ") + parameter.name + " differs from that of another parameter");
    }
  }
  return shape;
}

}  // namespace ppx::detail
