// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include <array>
#include <numeric>

#include "ppx/ppx.hpp"

namespace ppx {

Tensor::Tensor(double scalar) : data{scalar} {}

Tensor::Tensor(std::vector<double> values, std::vector<std::int32_t> dimensions)
    : data(std::move(values)), shape(std::move(dimensions)) {
  const auto size = std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
  if (size < 0 || static_cast<std::size_t>(size) != data.size()) {
    throw std::invalid_argument("ppx::Tensor: the shape has " + std::to_string(size) + " elements, the data " +
                                std::to_string(data.size()));
  }
}

Model::~Model() = default;

std::string_view distribution_name(const Distribution& distribution) {
  static constexpr std::array<std::string_view, std::variant_size_v<Distribution>> names = {
      "Normal", "Uniform",   "Categorical", "Poisson", "Bernoulli",        "Beta",    "Exponential",
      "Gamma",  "LogNormal", "Binomial",    "Weibull", "NegativeBinomial", "StudentT"};
  return names.at(distribution.index());
}

}  // namespace ppx
