// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#ifndef PPX_SRC_DRAW_HPP
#define PPX_SRC_DRAW_HPP

#include "ppx/ppx.hpp"
#include "random.hpp"

namespace ppx::detail {

/// Throws ParameterError unless every parameter is in its domain and their sizes agree.
void check_parameters(const Distribution& distribution);

/// The same, and every parameter must be one datum (Categorical: one row of probabilities).
void check_scalar_parameters(const Distribution& distribution);

/// One draw; the parameters have passed check_scalar_parameters.
double draw_scalar(const Distribution& distribution, Generator& generator);

double standard_normal(Generator& generator);

/// One draw per element; the parameters have passed check_parameters. A parameter of one datum serves all elements.
/// Categorical: one draw per row of the last axis.
Tensor draw_tensor(const Distribution& distribution, Generator& generator);

}  // namespace ppx::detail

#endif
