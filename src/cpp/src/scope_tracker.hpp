// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Assigns draws to executions of rejection loops.
#ifndef PPX_SRC_SCOPE_TRACKER_HPP
#define PPX_SRC_SCOPE_TRACKER_HPP

#include <cstdint>

#include "address_table.hpp"

namespace ppx::detail {

/// Scope of a draw (number in the run, 0 = none) and repetition, from 0.
struct Placement {
  std::uint32_t scope = 0;
  std::uint32_t repetition = 0;
};

class ScopeTracker {
 public:
  Placement place(const Site& site, const Stack& stack);

  // The explicit scope (RejectionScope). `frame` is the frame address of its constructor. It is larger for outer
  // scopes, which shows whether a scope of the site table encloses the explicit one.
  bool enter(const void* frame);  // false: nested in another explicit scope, which counts
  void repeat() { ++explicit_repetition_; }
  void leave() { explicit_frame_ = 0; }

 private:
  Placement place_explicit();
  Placement place_by_table(const Site& site);

  std::uint32_t count_ = 0;  // scopes of this run so far
  std::uintptr_t explicit_frame_ = 0;
  std::uint32_t explicit_number_ = 0;  // assigned at its first draw, so that numbers have no gaps
  std::uint32_t explicit_repetition_ = 0;
  std::uint32_t key_ = 0;  // of the active scope of the site table
  std::uint32_t number_ = 0;
  std::uint32_t repetition_ = 0;
  bool tested_ = false;
};

}  // namespace ppx::detail

#endif
