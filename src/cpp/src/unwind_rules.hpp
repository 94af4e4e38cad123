// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// How to get from a frame to its caller's: one row of the call frame information (DWARF 5, 6.4; .eh_frame: Linux
// Standard Base 5.0, 10.6), boiled down to what nearly every x86-64 frame needs.
#ifndef PPX_SRC_UNWIND_RULES_HPP
#define PPX_SRC_UNWIND_RULES_HPP

#include <cstdint>
#include <optional>

// Elsewhere every stack is walked by the platform's unwinder; PPX_NO_FAST_WALK asks for that here, too.
#if defined(__x86_64__) && defined(__LP64__) && defined(__linux__) && !defined(PPX_NO_FAST_WALK)
#define PPX_FAST_WALK 1
#else
#define PPX_FAST_WALK 0
#endif

namespace ppx::detail {

/// At a return address, the canonical frame address (the stack pointer before the call into this frame) is a register
/// plus `cfa_offset`; the caller's return address lies at CFA - 8, its rbp at CFA - `rbp_below_cfa`.
struct FrameRule {
  enum class Kind : std::uint8_t { from_rsp, from_rbp, unknown };

  Kind kind = Kind::unknown;
  std::uint32_t cfa_offset = 0;     // bytes, > 0
  std::uint32_t rbp_below_cfa = 0;  // bytes; 0: the frame leaves rbp as it found it
};

/// The rule at a return address; of kind unknown where the row says more than a FrameRule can (expressions, other
/// registers, signal frames). Nothing: no loaded code is known to be there, which a library loaded later may change.
/// Slow: it finds and interprets the function's call frame information.
std::optional<FrameRule> find_frame_rule(std::uintptr_t pc);

}  // namespace ppx::detail

#endif
