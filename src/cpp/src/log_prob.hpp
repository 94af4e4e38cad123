// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Log densities, with the formulas of the inference side (etalumis.distributions): a run scored here or there weighs
// the same up to rounding.
#ifndef PPX_SRC_LOG_PROB_HPP
#define PPX_SRC_LOG_PROB_HPP

#include <cstdint>

#include "ppx/ppx.hpp"

namespace ppx::detail {

/// Of one value under a scalar distribution (checked by check_scalar_parameters); -inf outside the support.
double log_prob(const Distribution& distribution, double value);

/// Summed over the elements of `value`, which has as many as one draw of the distribution.
double log_prob(const Distribution& distribution, const Tensor& value);

/// The shape of one draw.
std::vector<std::int32_t> draw_shape(const Distribution& distribution);

/// A digest of kind and support of a scalar distribution: equal where a value of one may be carried over to the other.
std::uint64_t support_digest(const Distribution& distribution);

}  // namespace ppx::detail

#endif
