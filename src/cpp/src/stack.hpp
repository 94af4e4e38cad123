// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Call stacks as vectors of return addresses, and their names.
#ifndef PPX_SRC_STACK_HPP
#define PPX_SRC_STACK_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ppx::detail {

/// A stack, innermost frame first.
struct Stack {
  static constexpr std::size_t limit = 128;

  std::array<std::uintptr_t, limit + 1> pc;     // return addresses
  std::array<std::uintptr_t, limit + 1> frame;  // stack pointers at the calls: larger = further out
  std::size_t size = 0;
  // How it was captured: between which frame addresses, and whether by cached rules, which `confirm` can check.
  const void* inner = nullptr;
  const void* outer = nullptr;
  bool fast = false;
};

/// Captures the frames between the frame addresses `inner` and `outer`, i.e. without the frames of the front end and
/// without those that call Model::forward; at most the Stack::limit innermost ones. In contrast to backtrace(3), outer
/// frames are never visited. Both addresses are __builtin_frame_address(0) in functions that are still executing.
void capture(const void* inner, const void* outer, Stack& stack);

/// Compares a stack of the fast walk with the unwinder of the platform, while the frames still exist. If they differ,
/// it takes the result of the latter and disables the fast walk. Returns false if it changed the stack.
bool confirm(Stack& stack);

// The fast walk, for the whole process. `fast_walk_errors` counts the stacks that `confirm` corrected.
bool fast_walk();
void set_fast_walk(bool on);
std::uint64_t fast_walk_errors();

struct FrameName {
  std::string label;     // as in an address: `demangled+0xOFFSET`, or `module+0xOFFSET` without a symbol
  std::string function;  // as matched by site patterns: no return type, arguments, offset; or the module
};

/// Never contains an absolute address, which would change at every start.
FrameName name_frame(std::uintptr_t pc);

/// `int ns::f<int>(double) const [clone .cold]` -> `ns::f<int>`.
std::string function_name(std::string_view demangled);

}  // namespace ppx::detail

#endif
