// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Log densities, with the formulas of etalumis.distributions: both sides compute the same weights up to rounding.
#ifndef PPX_SRC_LOG_PROB_HPP
#define PPX_SRC_LOG_PROB_HPP

#include <cstdint>

#include "ppx/ppx.hpp"

namespace ppx::detail {

/// Log density of a value under a scalar distribution; -inf outside the support. Call check_scalar_parameters first.
double log_prob(const Distribution& distribution, double value);

/// Sum of the log densities of the elements of `value`, which must have the size of a draw.
double log_prob(const Distribution& distribution, const Tensor& value);

/// The shape of a draw.
std::vector<std::int32_t> draw_shape(const Distribution& distribution);

/// A digest of kind and support of a scalar distribution: if equal, a value of one can be reused for the other.
std::uint64_t support_digest(const Distribution& distribution);

}  // namespace ppx::detail

#endif
