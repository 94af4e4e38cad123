// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// A walk up the stack by cached rules, one table look-up a frame: what the platform's unwinder finds, much faster.
#ifndef PPX_SRC_UNWIND_HPP
#define PPX_SRC_UNWIND_HPP

#include <cstdint>

#include "stack.hpp"

namespace ppx::detail {

/// As `capture`. False: a frame on the way is beyond the rules, the stack's content is undefined then. It reads
/// nothing but the stack between `inner`, which must be a frame address, and the frame of `outer`.
bool fast_capture(const void* inner, const void* outer, Stack& stack);

}  // namespace ppx::detail

#endif
