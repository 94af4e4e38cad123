// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include "scope_tracker.hpp"

namespace ppx::detail {

bool ScopeTracker::enter(const void* frame) {
  if (explicit_frame_ != 0) return false;
  explicit_frame_ = reinterpret_cast<std::uintptr_t>(frame);
  explicit_number_ = 0;
  explicit_repetition_ = 0;
  return true;
}

Placement ScopeTracker::place(const Site& site, const Stack& stack) {
  const bool in_table = site.scope_key != 0;
  const bool table_is_outside = in_table && stack.frame[site.scope_frame] > explicit_frame_;
  if (explicit_frame_ != 0 && !table_is_outside) return place_explicit();
  if (in_table) return place_by_table(site);
  key_ = 0;
  return {};
}

Placement ScopeTracker::place_explicit() {
  key_ = 0;
  if (explicit_number_ == 0) explicit_number_ = ++count_;
  return {explicit_number_, explicit_repetition_};
}

Placement ScopeTracker::place_by_table(const Site& site) {
  if (key_ != site.scope_key) {
    key_ = site.scope_key;
    number_ = ++count_;
    repetition_ = 0;
  } else if (tested_) {
    ++repetition_;
  }
  tested_ = site.acceptance_test;
  return {number_, repetition_};
}

}  // namespace ppx::detail
