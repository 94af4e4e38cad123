// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Stacks captured by the fast walk, and compared with the unwinder of the platform.
#ifndef PPX_TESTS_PROBE_HPP
#define PPX_TESTS_PROBE_HPP

#include <algorithm>
#include <cstddef>
#include <functional>
#include <vector>

#include "check.hpp"
#include "stack.hpp"
#include "unwind_rules.hpp"

#define KEEP __attribute__((noinline, noipa))

#if defined(__GNUC__) && !defined(__clang__)
#define UNOPTIMISED __attribute__((noinline, noipa, optimize("O0")))
#define WITHOUT_FRAME_POINTER __attribute__((noinline, noipa, optimize("O2", "omit-frame-pointer")))
#else
#define UNOPTIMISED KEEP
#define WITHOUT_FRAME_POINTER KEEP
#endif

using ppx::detail::Stack;

/// Captures the stack in both ways at every call, and counts.
struct Probe {
  const void* outer = nullptr;
  std::size_t captures = 0;
  std::size_t fast = 0;
  std::size_t different = 0;
  std::size_t deepest = 0;
  bool compare = true;
  std::vector<Stack>* keep = nullptr;
  Stack stack;

  // In place of ppx::sample.
  KEEP void operator()() {
    const void* const here = __builtin_frame_address(0);
    ppx::detail::capture(here, outer, stack);
    if (keep != nullptr) keep->push_back(stack);
    if (!compare) return;
    ppx::detail::set_fast_walk(false);
    Stack slow;
    ppx::detail::capture(here, outer, slow);
    ppx::detail::set_fast_walk(true);
    ++captures;
    if (stack.fast) ++fast;
    if (!same(slow)) ++different;
    deepest = std::max(deepest, stack.size);
  }

  bool same(const Stack& other) const {
    const auto size = static_cast<std::ptrdiff_t>(other.size);
    return stack.size == other.size && std::equal(other.pc.begin(), other.pc.begin() + size, stack.pc.begin()) &&
           std::equal(other.frame.begin(), other.frame.begin() + size, stack.frame.begin());
  }
};

// Unknown to the compiler, so that an addition of it prevents a tail call, which would remove the frame.
inline volatile int one = 1;

inline void keep_alive(const void* memory) { asm volatile("" : : "r"(memory) : "memory"); }

/// In place of Run::forward.
KEEP inline int within(Probe& probe, const std::function<void(Probe&)>& model) {
  const void* const around = probe.outer;
  probe.outer = __builtin_frame_address(0);
  model(probe);
  probe.outer = around;
  return one;
}

/// All captures are correct, and all are fast if the fast walk is supported.
inline void check_exact(const Probe& probe, std::size_t captures) {
  CHECK_EQUAL(probe.captures, captures);
  CHECK_EQUAL(probe.different, std::size_t{0});
  CHECK_EQUAL(probe.fast, PPX_FAST_WALK ? captures : std::size_t{0});
}

// Levels of calls of different depths look equal: no register contains the depth.
inline volatile int levels_to_go = 0;
KEEP inline int recurse_on(Probe& probe) {
  const int to_go = levels_to_go;
  levels_to_go = to_go - 1;
  if (to_go > 0) return one + recurse_on(probe);
  probe();
  return one;
}
KEEP inline int recurse(Probe& probe, int levels) {
  keep_alive(__builtin_frame_address(0));  // in rbp, which is then the same for all
  levels_to_go = levels;
  return one + recurse_on(probe);
}

#endif
