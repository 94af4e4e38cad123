// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// A stack walk by cached rules, with one table look-up per frame: the result of the platform's unwinder, much faster.
#ifndef PPX_SRC_UNWIND_HPP
#define PPX_SRC_UNWIND_HPP

#include <cstdint>

#include "stack.hpp"

namespace ppx::detail {

/// As `capture`. Returns false, with undefined content of the stack, if the rules do not cover a frame. Reads only the
/// stack between `inner`, which must be a frame address, and the frame of `outer`.
bool fast_capture(const void* inner, const void* outer, Stack& stack);

}  // namespace ppx::detail

#endif
