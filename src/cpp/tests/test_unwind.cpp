// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// The fast walk compared with the unwinder of the platform, for many kinds of frames.
#include <alloca.h>

#include <array>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <thread>

#include "probe.hpp"

namespace {

// Functions of many kinds, which call each other in random order: `next` decides.
struct Walk {
  Probe& probe;
  std::mt19937 random;
  int budget;

  explicit Walk(Probe& p, unsigned seed, int captures) : probe(p), random(seed), budget(captures) {}
  unsigned pick(unsigned count) { return static_cast<unsigned>(random() % count); }
};

int next(Walk& walk, int depth);

KEEP int plain(Walk& walk, int depth) { return one + next(walk, depth) + next(walk, depth); }

UNOPTIMISED int unoptimised(Walk& walk, int depth) {
  int sum = next(walk, depth);
  sum += next(walk, depth);
  return sum;
}

// Seven values live across calls, more than there are callee-saved registers, including rbp.
WITHOUT_FRAME_POINTER int registers(Walk& walk, int depth) {
  const int a = one, b = one + 1, c = one + 2, d = one + 3, e = one + 4, f = one + 5, g = one + 6;
  const int first = next(walk, depth);
  const int second = next(walk, depth);
  return a * first + b * second + c + d * a + e + f * b + g;
}

// Its stack pointer is known only at run time: the frame is found by rbp.
KEEP int variable_length(Walk& walk, int depth) {
  const std::size_t size = 1 + walk.pick(300);
  auto* const memory = static_cast<volatile char*>(alloca(size));
  memory[size - 1] = 1;
  const int sum = next(walk, depth) + memory[size - 1];
  return sum + next(walk, depth);
}

KEEP int large(Walk& walk, int depth) {
  std::array<volatile int, 5000> memory;
  memory[4999] = one;
  const int sum = next(walk, depth);
  return sum + memory[4999];
}

// Pushes arguments around the call, so that the offset of the stack pointer changes within the function.
KEEP int many_arguments(Walk& walk, int depth, int a, int b, int c, int d, int e, int f, int g) {
  const int sum = next(walk, depth);
  return sum + a + b + c + d + e + f + g;
}
KEEP int with_many_arguments(Walk& walk, int depth) {
  const int first = next(walk, depth);
  return first + many_arguments(walk, depth, one, 2, one, 4, one, 6, one);
}

struct Base {
  virtual ~Base() = default;
  virtual int call(Walk& walk, int depth) = 0;
};
struct Derived final : Base {
  KEEP int call(Walk& walk, int depth) override { return one + next(walk, depth); }
};
KEEP int virtually(Walk& walk, int depth) {
  const std::unique_ptr<Base> base = std::make_unique<Derived>();
  return one + base->call(walk, depth);
}

KEEP int through_function(Walk& walk, int depth) {
  const std::function<int(int)> function = [&walk](int d) { return one + next(walk, d); };
  return one + function(depth);
}

KEEP int tail_called(Walk& walk, int depth) { return next(walk, depth); }

thread_local Walk* sorted_walk = nullptr;
thread_local int sorted_depth = 0;

int compare(const void* a, const void* b) {
  Walk* const walk = sorted_walk;
  const int depth = sorted_depth;
  next(*walk, depth);
  sorted_walk = walk;  // it may have sorted, too
  sorted_depth = depth;
  return *static_cast<const int*>(a) - *static_cast<const int*>(b);
}
KEEP int through_libc(Walk& walk, int depth) {
  std::array<int, 4> values{3, 1, 4, 1};
  sorted_walk = &walk;
  sorted_depth = depth;
  std::qsort(values.data(), values.size(), sizeof(int), compare);
  return values[0];
}

// Draws in a destructor, while the stack is being unwound.
struct DrawsAtTheEnd {
  Walk& walk;
  int depth;
  KEEP ~DrawsAtTheEnd() { next(walk, depth); }
};
KEEP int throws(Walk& walk, int depth) {
  const DrawsAtTheEnd at_the_end{walk, depth};
  if (one == 1) throw walk.pick(10);
  return one;
}
KEEP int through_exception(Walk& walk, int depth) {
  try {
    return throws(walk, depth);
  } catch (unsigned thrown) {
    return static_cast<int>(thrown) + next(walk, depth);
  }
}

int next(Walk& walk, int depth) {
  static constexpr std::array<int (*)(Walk&, int), 11> kinds{
      plain,       unoptimised,         registers,        variable_length,
      large,       with_many_arguments, virtually,        through_function,
      tail_called, through_libc,        through_exception};
  if (walk.budget <= 0) return 0;
  if (depth == 0 || walk.pick(4) == 0) {
    --walk.budget;
    walk.probe();
    return one;
  }
  return kinds[walk.pick(kinds.size())](walk, depth - 1) + one;
}

void stacks_of_all_kinds_are_exact() {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    Probe probe;
    within(probe, [seed](Probe& p) {
      Walk walk(p, seed, 300);
      while (walk.budget > 0) next(walk, 25);
    });
    check_exact(probe, 300);
    CHECK(probe.deepest > 15);
  }
}

void recursion_up_to_the_limit_and_beyond_is_exact() {
  Probe probe;
  within(probe, [](Probe& p) {
    keep_alive(__builtin_frame_address(0));  // in rbp, or that would count the loop
    // Depths around the limit of 128 frames, so that every walk follows one of another length.
    for (const int levels :
         {0, 1, 100, 122, 123, 124, 125, 126, 127, 128, 129, 130, 300, 3, 100, 130, 100, 300, 130, 126, 124, 125, 2}) {
      for (int i = 0; i < 2; ++i) recurse(p, levels);
    }
  });
  check_exact(probe, 46);
  CHECK_EQUAL(probe.deepest, Stack::limit);
}

#if PPX_FAST_WALK
// Its call frame information is correct at the call and wrong at the return address. This occurs if another path
// follows a call that never returns.
extern "C" void ppx_test_call_before_lie(void (*function)(void*), void* argument);
asm(R"(
  .pushsection .text
  .type ppx_test_call_before_lie, @function
ppx_test_call_before_lie:
  .cfi_startproc
  mov %rdi, %rax
  mov %rsi, %rdi
  sub $24, %rsp
  .cfi_def_cfa_offset 32
  call *%rax
  .cfi_remember_state
  .cfi_def_cfa_offset 48
  nop
  .cfi_restore_state
  add $24, %rsp
  .cfi_def_cfa_offset 8
  ret
  .cfi_endproc
  .size ppx_test_call_before_lie, . - ppx_test_call_before_lie
  .popsection
)");

void the_row_is_that_of_the_call() {
  Probe probe;
  within(probe,
         [](Probe& p) { ppx_test_call_before_lie([](void* data) { recurse(*static_cast<Probe*>(data), 2); }, &p); });
  check_exact(probe, 1);
}
#endif

// An aligned local variable, arguments on the stack and alloca: GCC then describes the frame by an expression, which
// the rules cannot represent.
KEEP int realigned(Probe& probe, int a, int b, int c, int d, int e, int f, int g, int h) {
  alignas(64) std::array<volatile int, 32> memory;
  memory[0] = a + b + c + d;
  auto* const more = static_cast<volatile char*>(alloca(static_cast<std::size_t>(memory[0])));
  more[0] = 1;
  probe();
  return memory[0] + more[0] + e + f + g + h;
}

void realigned_frames_fall_back_and_are_exact() {
  Probe probe;
  within(probe, [](Probe& p) {
    recurse(p, 3);
    for (int i = 1; i < 20; ++i) realigned(p, i, one, one, one, one, one, one, one);
    recurse(p, 3);
  });
  CHECK_EQUAL(probe.captures, std::size_t{21});
  CHECK_EQUAL(probe.different, std::size_t{0});
#if PPX_FAST_WALK && !defined(__clang__)
  CHECK_EQUAL(probe.fast, std::size_t{2});
#endif
}

void threads_walk_their_own_stacks() {
  std::array<Probe, 4> probes;
  std::vector<std::thread> threads;
  // One after the other, because disabling the fast walk for the comparison affects the whole process.
  for (std::size_t i = 0; i < probes.size(); ++i) {
    threads.emplace_back([&probe = probes[i], i] {
      within(probe, [i](Probe& p) {
        Walk walk(p, static_cast<unsigned>(100 + i), 100);
        while (walk.budget > 0) next(walk, 20);
      });
    });
    threads.back().join();
  }
  for (const Probe& probe : probes) check_exact(probe, 100);
}

}  // namespace

int main() {
  return run_tests({{"stacks of all kinds are exact", stacks_of_all_kinds_are_exact},
                    {"recursion up to the limit and beyond is exact", recursion_up_to_the_limit_and_beyond_is_exact},
#if PPX_FAST_WALK
                    {"the row is that of the call", the_row_is_that_of_the_call},
#endif
                    {"realigned frames fall back and are exact", realigned_frames_fall_back_and_are_exact},
                    {"threads walk their own stacks", threads_walk_their_own_stacks}});
}
