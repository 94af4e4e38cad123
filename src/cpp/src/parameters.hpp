// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// The parameters of a distribution as a list, in the order of the schema.
#ifndef PPX_SRC_PARAMETERS_HPP
#define PPX_SRC_PARAMETERS_HPP

#include <array>
#include <cstddef>

#include "ppx/ppx.hpp"

namespace ppx::detail {

struct Parameter {
  const char* name = nullptr;
  const Tensor* value = nullptr;
};

/// One or two parameters; no allocation.
struct Parameters {
  std::array<Parameter, 2> items;
  std::size_t count;

  const Parameter* begin() const { return items.data(); }
  const Parameter* end() const { return items.data() + count; }
};

inline Parameters one(const char* name, const Tensor& value) { return {{{{name, &value}, {}}}, 1}; }

inline Parameters two(const char* name0, const Tensor& value0, const char* name1, const Tensor& value1) {
  return {{{{name0, &value0}, {name1, &value1}}}, 2};
}

inline Parameters parameters(const Normal& d) { return two("mean", d.mean, "stddev", d.stddev); }
inline Parameters parameters(const Uniform& d) { return two("low", d.low, "high", d.high); }
inline Parameters parameters(const Categorical& d) { return one("probs", d.probs); }
inline Parameters parameters(const Poisson& d) { return one("rate", d.rate); }
inline Parameters parameters(const Bernoulli& d) { return one("probs", d.probs); }
inline Parameters parameters(const Beta& d) {
  return two("concentration1", d.concentration1, "concentration0", d.concentration0);
}
inline Parameters parameters(const Exponential& d) { return one("rate", d.rate); }
inline Parameters parameters(const Gamma& d) { return two("concentration", d.concentration, "rate", d.rate); }
inline Parameters parameters(const LogNormal& d) { return two("loc", d.loc, "scale", d.scale); }
inline Parameters parameters(const Binomial& d) { return two("total_count", d.total_count, "probs", d.probs); }
inline Parameters parameters(const Weibull& d) { return two("scale", d.scale, "concentration", d.concentration); }

inline Parameters parameters(const Distribution& distribution) {
  return std::visit([](const auto& d) { return parameters(d); }, distribution);
}

}  // namespace ppx::detail

#endif
