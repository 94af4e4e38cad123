// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Proposals for one entry of a chain; etalumis.inference.entry_proposals shows that they are reversible.
#ifndef PPX_SRC_PROPOSAL_HPP
#define PPX_SRC_PROPOSAL_HPP

#include "ppx/ppx.hpp"
#include "random.hpp"

namespace ppx::detail {

/// `log_ratio` is log [p(x') k(x | x')] - log [p(x) k(x' | x)], with the prior p and the chosen kernel k.
struct Proposal {
  double value;
  double log_ratio;
};

/// A new value for an entry with the scalar prior `prior`: a draw with probability `fresh_share`, otherwise a step.
Proposal propose(const Distribution& prior, double value, double log_density, double fresh_share, Generator& generator);

}  // namespace ppx::detail

#endif
