// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Proposals for one entry of a chain: those of etalumis.inference.proposals, which says why they are reversible.
#ifndef PPX_SRC_PROPOSAL_HPP
#define PPX_SRC_PROPOSAL_HPP

#include "ppx/ppx.hpp"
#include "random.hpp"

namespace ppx::detail {

/// `log_ratio` is log [p(x') k(x | x')] - log [p(x) k(x' | x)], p the prior and k the kernel that was chosen.
struct Proposal {
  double value;
  double log_ratio;
};

/// A new value for an entry of the scalar prior `prior`: drawn from it with probability `fresh_share`, else a step.
Proposal propose(const Distribution& prior, double value, double log_density, double fresh_share, Generator& generator);

}  // namespace ppx::detail

#endif
