// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// State that is kept between walks, stacks and runs.
#include <alloca.h>

#include <algorithm>
#include <array>
#include <functional>
#include <random>
#include <string>
#include <thread>

#include "address_table.hpp"
#include "probe.hpp"
#include "record.hpp"

namespace {

using ppx::detail::AddressTable;

// Between two draws, outer frames remain, inner ones change, and rbp may be saved elsewhere.
WITHOUT_FRAME_POINTER int keeps_rbp(Probe& probe) {
  probe();
  return one;
}
KEEP int uses_rbp(Probe& probe, std::size_t size) {
  auto* const memory = static_cast<volatile char*>(alloca(size));
  memory[0] = 1;
  probe();
  return one + memory[0];
}
void frames_that_come_and_go_are_exact() {
  Probe probe;
  within(probe, [](Probe& p) {
    for (std::size_t round = 0; round < 50; ++round) {
      const std::function<void(std::size_t)> out = [&](std::size_t level) {
        auto* const memory = static_cast<volatile char*>(alloca(16 * (1 + (round * 7 + level) % 5)));
        memory[0] = 1;
        keeps_rbp(p);
        uses_rbp(p, 16 + 16 * (round % 3));
        if (level > 0) out(level - 1);
        uses_rbp(p, 16 + 16 * (level % 2));
        keeps_rbp(p);
        memory[0] = 2;
      };
      out(round % 7);
    }
  });
  CHECK(probe.captures > 500);
  check_exact(probe, probe.captures);
}

// Two activations with the same layout but for one frame, whose size is divided differently between it and its caller.
// Return addresses and inner stack pointers are equal, and memory still has the values of the first activation. Only
// rbp differs.
Probe* drawing = nullptr;
using Place = void (*)();       // where to draw
const Place* places = nullptr;  // in order, up to a null

WITHOUT_FRAME_POINTER void saves_rbp_late() {
  const int a = one, b = one + 1, c = one + 2, d = one + 3, e = one + 4, f = one + 5, g = one + 6;
  (*drawing)();
  one = 1 + (one - 1) * (a * b + c + d * a + e + f * b + g);
}
KEEP void saves_rbp_first() {
  void* const memory = alloca(static_cast<std::size_t>(512 * one));
  (*drawing)();
  keep_alive(memory);
}
// One call site for all, and no value kept in rbp.
WITHOUT_FRAME_POINTER void leaves_rbp() {
  while (*places != nullptr) (*places++)();
}
KEEP void lower_part(std::size_t size) {
  void* const memory = alloca(size);
  leaves_rbp();
  keep_alive(memory);
}
KEEP void upper_part(const Place* in_turn, std::size_t size) {
  void* const memory = alloca(size);
  places = in_turn;
  lower_part(1024 - size);
  keep_alive(memory);
}
void overlapping_activations_are_exact() {
  Probe probe;
  probe.compare = false;  // the other walk would overwrite the memory
  std::vector<Stack> fast;
  std::vector<Stack> slow;
  const auto model = [](Probe& p) {
    drawing = &p;
    constexpr Place L = saves_rbp_late;
    constexpr Place F = saves_rbp_first;
    const std::vector<std::vector<Place>> orders{{L, nullptr},    {F, nullptr},       {L, F, nullptr},
                                                 {F, L, nullptr}, {L, L, F, nullptr}, {F, F, L, nullptr}};
    for (const auto& order : orders) {
      for (const std::size_t size : {128, 896, 256}) {
        upper_part(order.data(), size);
        upper_part(&order[order.size() - 2], 1024 - size);
      }
    }
  };
  probe.keep = &fast;
  within(probe, model);
  ppx::detail::set_fast_walk(false);
  probe.keep = &slow;
  within(probe, model);
  ppx::detail::set_fast_walk(true);
  CHECK_EQUAL(fast.size(), slow.size());
  for (std::size_t i = 0; i < fast.size(); ++i) {
    probe.stack = fast[i];
    CHECK(fast[i].fast == (PPX_FAST_WALK != 0) && !slow[i].fast);
    CHECK(slow[i].size >= 4 && probe.same(slow[i]));
  }
}

void nested_runs_are_exact() {
  Probe probe;
  within(probe, [](Probe& p) {
    recurse(p, 5);
    const void* const outermost = p.outer;
    within(p, [outermost](Probe& inner) {
      const void* const own = inner.outer;
      // One stack with two ends.
      for (const void* outer : {own, own, outermost, own, outermost, outermost}) {
        inner.outer = outer;
        recurse(inner, 5);
      }
    });
    recurse(p, 5);
  });
  check_exact(probe, 8);
}

// Concurrent runs with ppx::sample.
std::vector<std::string> addresses(unsigned seed) {
  const auto draws = [seed] {
    std::mt19937 random(seed);
    const std::function<double(unsigned)> level = [&](unsigned depth) -> double {
      double sum = ppx::sample(ppx::Uniform{0.0, 1.0});
      if (depth > 0) sum += level(depth - 1 - static_cast<unsigned>(random() % depth));
      return sum + ppx::sample(ppx::Uniform{0.0, 1.0});
    };
    double sum = 0.0;
    for (int i = 0; i < 50; ++i) sum += level(static_cast<unsigned>(random() % 20));
    return ppx::Tensor(sum);
  };
  std::vector<std::string> result;
  for (const Recorded& r : record(draws)) result.push_back(r.address);
  return result;
}

void concurrent_runs_have_the_addresses_of_slow_ones() {
  std::array<std::vector<std::string>, 4> slow;
  ppx::detail::set_fast_walk(false);
  for (unsigned i = 0; i < 4; ++i) slow[i] = addresses(i);
  ppx::detail::set_fast_walk(true);
  std::array<std::vector<std::string>, 4> fast;
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 4; ++i) threads.emplace_back([&fast, i] { fast[i] = addresses(i); });
  for (std::thread& thread : threads) thread.join();
  CHECK(fast == slow);
  CHECK_EQUAL(ppx::detail::fast_walk_errors(), std::uint64_t{0});
}

void sites_have_dense_numbers() {
  AddressTable table;
  Probe probe;
  std::vector<std::uint32_t> ids;
  within(probe, [&](Probe& p) {
    for (int round = 0; round < 2; ++round) {
      for (int levels = 0; levels < 60; ++levels) {
        for (int repeat = 0; repeat < 40; ++repeat) {
          p.stack.size = static_cast<std::size_t>(1 + repeat);
          std::fill_n(p.stack.pc.begin(), p.stack.size, reinterpret_cast<std::uintptr_t>(&sites_have_dense_numbers));
          p.stack.pc[0] += static_cast<std::uintptr_t>(levels);
          if (levels == 0 && repeat == 0) table.refresh();
          ids.push_back(table.find(p.stack).id);
        }
      }
    }
  });
  CHECK_EQUAL(table.size(), std::size_t{2400});  // the table has grown
  for (std::uint32_t i = 0; i < 4800; ++i) CHECK_EQUAL(ids[i], i % 2400);
  ppx::set_sites({});
  table.refresh();
  Stack stack = probe.stack;
  CHECK_EQUAL(table.find(stack).id, std::uint32_t{0});
}

// The last test, because it disables the fast walk.
void a_wrong_walk_is_corrected_and_the_last() {
  AddressTable table;
  table.refresh();
  Probe probe;
  within(probe, [&](Probe& p) {
    const std::function<void()> draw = [&] {
      const void* const here = __builtin_frame_address(0);
      Stack right;
      ppx::detail::capture(here, p.outer, right);
      CHECK_EQUAL(right.fast, PPX_FAST_WALK != 0);
      const std::string address = table.find(right).address;
      Stack wrong = right;
      wrong.fast = true;
      wrong.pc[1] += 1;
      CHECK_EQUAL(table.find(wrong).address, address);
      CHECK_EQUAL(wrong.pc[1], right.pc[1]);
      CHECK(!wrong.fast && !ppx::detail::fast_walk());
      ppx::detail::capture(here, p.outer, right);
      CHECK(!right.fast);
      CHECK(&table.find(right) == &table.find(wrong));
    };
    draw();
  });
  CHECK_EQUAL(ppx::detail::fast_walk_errors(), std::uint64_t{1});
  CHECK_EQUAL(table.size(), std::size_t{1});
}

}  // namespace

int main() {
  return run_tests(
      {{"frames that come and go are exact", frames_that_come_and_go_are_exact},
       {"overlapping activations are exact", overlapping_activations_are_exact},
       {"nested runs are exact", nested_runs_are_exact},
       {"concurrent runs have the addresses of slow ones", concurrent_runs_have_the_addresses_of_slow_ones},
       {"sites have dense numbers", sites_have_dense_numbers},
       {"a wrong walk is corrected, and the last", a_wrong_walk_is_corrected_and_the_last}});
}
