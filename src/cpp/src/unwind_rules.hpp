// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Rules that lead from a frame to its caller: one row of the call frame information (DWARF 5, 6.4; .eh_frame: Linux
// Standard Base 5.0, 10.6), reduced to the forms that nearly all x86-64 frames use.
#ifndef PPX_SRC_UNWIND_RULES_HPP
#define PPX_SRC_UNWIND_RULES_HPP

#include <cstdint>
#include <optional>

// Other platforms use their unwinder for every stack; so does x86-64 Linux with PPX_NO_FAST_WALK.
#if defined(__x86_64__) && defined(__LP64__) && defined(__linux__) && !defined(PPX_NO_FAST_WALK)
#define PPX_FAST_WALK 1
#else
#define PPX_FAST_WALK 0
#endif

namespace ppx::detail {

/// At a return address, the canonical frame address (the stack pointer before the call of this frame) is a register
/// plus `cfa_offset`. The return address to the caller is at CFA - 8, the rbp of the caller at CFA - `rbp_below_cfa`.
struct FrameRule {
  enum class Kind : std::uint8_t { from_rsp, from_rbp, unknown };

  Kind kind = Kind::unknown;
  std::uint32_t cfa_offset = 0;     // bytes, > 0
  std::uint32_t rbp_below_cfa = 0;  // bytes; 0: the frame does not change rbp
};

/// The rule at a return address; its kind is unknown if a FrameRule cannot represent the row (expressions, other
/// registers, signal frames). Nothing if no code is loaded there, which a library loaded later may change.
/// Slow: finds and interprets the call frame information of the function.
std::optional<FrameRule> find_frame_rule(std::uintptr_t pc);

}  // namespace ppx::detail

#endif
