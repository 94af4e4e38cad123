// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// The parameters of a distribution as a list, in the order of the schema.
#ifndef PPX_SRC_PARAMETERS_HPP
#define PPX_SRC_PARAMETERS_HPP

#include <array>
#include <cstddef>
#include <type_traits>
#include <utility>

#include "ppx/ppx.hpp"

namespace ppx::detail {

struct Parameter {
  const char* name = nullptr;
  const Tensor* value = nullptr;
};

/// One to three parameters; no allocation.
struct Parameters {
  std::array<Parameter, 3> items;
  std::size_t count;

  const Parameter* begin() const { return items.data(); }
  const Parameter* end() const { return items.data() + count; }
};

inline Parameters one(const char* name, const Tensor& value) { return {{{{name, &value}, {}, {}}}, 1}; }

inline Parameters two(const char* name0, const Tensor& value0, const char* name1, const Tensor& value1) {
  return {{{{name0, &value0}, {name1, &value1}, {}}}, 2};
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

inline Parameters parameters(const NegativeBinomial& d) { return two("total_count", d.total_count, "probs", d.probs); }
inline Parameters parameters(const StudentT& d) { return {{{{"df", &d.df}, {"loc", &d.loc}, {"scale", &d.scale}}}, 3}; }

inline Parameters parameters(const Distribution& distribution) {
  return std::visit([](const auto& d) { return parameters(d); }, distribution);
}

/// Element `i` of a parameter; one that has a single value applies to all elements. 0 for a parameter that is not
/// there.
inline double element(const Parameter& parameter, std::size_t i) {
  if (parameter.value == nullptr) return 0.0;
  const auto& data = parameter.value->data;
  return data.size() == 1 ? data[0] : data[i];
}

/// The parameter that has the size of a draw, Categoricals apart. Of two shapes of the same size, (1,) and (), the
/// longer one: the inference side broadcasts.
inline const Tensor& widest(const Parameters& list) {
  const Tensor* found = list.items[0].value;
  for (const Parameter& parameter : list) {
    const Tensor& other = *parameter.value;
    if (other.data.size() > found->data.size() ||
        (other.data.size() == found->data.size() && other.shape.size() > found->shape.size())) {
      found = &other;
    }
  }
  return *found;
}

/// f(d, p, q, x...) with element `i` of the parameters; StudentT has three of them.
template <typename D, typename F, typename... X>
double with_element(const F& f, const D& d, const Parameters& list, std::size_t i, X&&... x) {
  const double first = element(list.items[0], i);
  const double second = element(list.items[1], i);
  if constexpr (std::is_same_v<D, StudentT>) {
    return f(d, first, second, element(list.items[2], i), std::forward<X>(x)...);
  } else {
    return f(d, first, second, std::forward<X>(x)...);
  }
}

}  // namespace ppx::detail

#endif
