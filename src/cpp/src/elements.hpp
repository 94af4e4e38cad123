// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// The elements of a draw of a tensor: independent scalar draws.
#ifndef PPX_SRC_ELEMENTS_HPP
#define PPX_SRC_ELEMENTS_HPP

#include <string>
#include <vector>

#include "ppx/ppx.hpp"

namespace ppx::detail {

/// The scalar distribution of a kind (its number in the union Distribution) with given parameters.
Distribution scalar_distribution(std::uint32_t kind, const double* parameters, std::size_t count);

/// The scalar distribution of element `i`, row-major; call check_parameters first.
Distribution element_distribution(const Distribution& distribution, std::size_t i);

/// The indices of all elements, row-major: "[0,0]", "[0,1]", ...; "" for a scalar.
std::vector<std::string> element_indices(const std::vector<std::int32_t>& shape);

}  // namespace ppx::detail

#endif
