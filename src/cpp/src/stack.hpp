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
  // The walk that filled it: between which frame addresses, and whether by cached rules, which `confirm` can check.
  const void* inner = nullptr;
  const void* outer = nullptr;
  bool fast = false;
};

/// Collects the frames further out than `inner` and further in than the function whose frame address is `outer`:
/// neither the front end's own frames nor those around the call of Model::forward. At most Stack::limit innermost
/// ones. This is backtrace(3) with both ends cut while walking: the frames around forward are never visited.
/// Both are what __builtin_frame_address(0) says in a function that is being executed.
void capture(const void* inner, const void* outer, Stack& stack);

/// Checks a stack captured by the fast walk against the platform's unwinder, while the frames are still there. Should
/// they differ, it takes the latter's and switches the fast walk off. False: the stack is another one now.
bool confirm(Stack& stack);

// The fast walk, for the whole process. `fast_walk_errors` counts the stacks that `confirm` had to put right.
bool fast_walk();
void set_fast_walk(bool on);
std::uint64_t fast_walk_errors();

struct FrameName {
  std::string label;     // what goes into an address: `demangled+0xOFFSET`, without a symbol `module+0xOFFSET`
  std::string function;  // what site patterns see: no return type, arguments, offset; without a symbol the module
};

/// Never contains an absolute address: those change at every start.
FrameName name_frame(std::uintptr_t pc);

/// `int ns::f<int>(double) const [clone .cold]` -> `ns::f<int>`.
std::string function_name(std::string_view demangled);

}  // namespace ppx::detail

#endif
