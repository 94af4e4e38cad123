// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include "elements.hpp"

#include <array>

#include "parameters.hpp"

namespace ppx::detail {

Distribution scalar_distribution(std::uint32_t kind, const double* p, std::size_t count) {
  switch (kind) {
    case 1:
      return Normal{p[0], p[1]};
    case 2:
      return Uniform{p[0], p[1]};
    case 3:
      return Categorical{{std::vector<double>(p, p + count), {static_cast<std::int32_t>(count)}}};
    case 4:
      return Poisson{p[0]};
    case 5:
      return Bernoulli{p[0]};
    case 6:
      return Beta{p[0], p[1]};
    case 7:
      return Exponential{p[0]};
    case 8:
      return Gamma{p[0], p[1]};
    case 9:
      return LogNormal{p[0], p[1]};
    case 10:
      return Binomial{p[0], p[1]};
    case 11:
      return Weibull{p[0], p[1]};
    case 12:
      return NegativeBinomial{p[0], p[1]};
    default:
      return StudentT{p[0], p[1], p[2]};
  }
}

Distribution element_distribution(const Distribution& distribution, std::size_t i) {
  const auto kind = static_cast<std::uint32_t>(distribution.index()) + 1;
  if (const auto* rows = std::get_if<Categorical>(&distribution)) {
    const Tensor& probs = rows->probs;
    const std::size_t width = probs.shape.empty() ? probs.data.size() : static_cast<std::size_t>(probs.shape.back());
    return scalar_distribution(kind, probs.data.data() + i * width, width);
  }
  const Parameters list = parameters(distribution);
  std::array<double, 3> values{};
  for (std::size_t k = 0; k < list.count; ++k) values[k] = element(list.items[k], i);
  return scalar_distribution(kind, values.data(), list.count);
}

std::vector<std::string> element_indices(const std::vector<std::int32_t>& shape) {
  std::vector<std::string> indices = {""};
  for (const std::int32_t extent : shape) {
    std::vector<std::string> longer;
    for (const std::string& outer : indices) {
      for (std::int32_t i = 0; i < extent; ++i)
        longer.push_back(outer + (outer.empty() ? "[" : ",") + std::to_string(i));
    }
    indices = std::move(longer);
  }
  if (!shape.empty()) {
    for (std::string& index : indices) index += "]";
  }
  return indices;
}

}  // namespace ppx::detail
