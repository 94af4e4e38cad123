// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#ifndef PPX_SRC_DRAW_HPP
#define PPX_SRC_DRAW_HPP

#include "ppx/ppx.hpp"
#include "random.hpp"

namespace ppx::detail {

/// Throws ParameterError if a parameter is outside its domain or their sizes do not agree.
void check_parameters(const Distribution& distribution);

/// Also throws if a parameter is not a single value (Categorical: one row of probabilities).
void check_scalar_parameters(const Distribution& distribution);

/// Also throws if two parameters of several elements have different shapes. Returns the shape of a draw.
std::vector<std::int32_t> check_tensor_parameters(const Distribution& distribution);

/// One draw; call check_scalar_parameters first.
double draw_scalar(const Distribution& distribution, Generator& generator);

double standard_normal(Generator& generator);

/// One draw per element; call check_parameters first. A parameter with one value applies to all elements.
/// Categorical: one draw per row of the last axis.
Tensor draw_tensor(const Distribution& distribution, Generator& generator);

}  // namespace ppx::detail

#endif
