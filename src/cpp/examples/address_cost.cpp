// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Measures the cost of the address of a draw, i.e. of capturing the call stack and finding it in the table, relative to
// backtrace(3) at the same place. Uses private headers of the library, which no simulator needs.
#include <execinfo.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <iostream>
#include <limits>
#include <string>
#include <vector>

#include "address_table.hpp"

namespace {

using ppx::detail::AddressTable;
using ppx::detail::Stack;

constexpr int calls = 500;  // per measurement
constexpr int rounds = 60;  // measurements of each kind, alternating; the fastest counts
constexpr int max_frames = 128;

struct Cost {
  double known_stack_ns = std::numeric_limits<double>::infinity();
  double backtrace_ns = std::numeric_limits<double>::infinity();
};

const void* outer = nullptr;

template <class Call>
double nanoseconds(const Call& call) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < calls; ++i) call(i);
  const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - start;
  return time.count() / calls;
}

// Stands for ppx::sample.
[[gnu::noinline]] std::size_t locate(AddressTable& table, Stack& stack) {
  ppx::detail::capture(__builtin_frame_address(0), outer, stack);
  return table.find(stack).id;
}

[[gnu::noinline]] int bare() {
  std::array<void*, max_frames> frames;
  const int size = backtrace(frames.data(), max_frames);
  asm volatile("" : : "r"(frames.data()) : "memory");
  return size;
}

// Two functions that draw alternately, so that no stack equals the previous one.
[[gnu::noinline]] std::size_t one_site(AddressTable& table, Stack& stack) { return locate(table, stack) + 1; }
[[gnu::noinline]] std::size_t other_site(AddressTable& table, Stack& stack) { return locate(table, stack) + 2; }
[[gnu::noinline]] int bare_site() { return bare() + 1; }

void measure(AddressTable& table, Cost& cost) {
  Stack stack;
  for (int round = 0; round < rounds; ++round) {
    volatile std::size_t sink = 0;
    cost.known_stack_ns =
        std::min(cost.known_stack_ns,
                 nanoseconds([&](int i) { sink = i % 2 == 0 ? one_site(table, stack) : other_site(table, stack); }));
    cost.backtrace_ns =
        std::min(cost.backtrace_ns, nanoseconds([&](int) { sink = static_cast<std::size_t>(bare_site()); }));
  }
}

// The work after the call prevents a tail call, which would remove the frame.
[[gnu::noinline]] int descend(int levels, AddressTable& table, Cost& cost) {
  if (levels == 0) {
    measure(table, cost);
    return 0;
  }
  const int below = descend(levels - 1, table, cost);
  asm volatile("" : : "r"(below) : "memory");
  return below + 1;
}

[[gnu::noinline]] Cost at_depth(int depth, AddressTable& table) {
  outer = __builtin_frame_address(0);
  Cost cost;
  descend(depth - 3, table, cost);  // three levels: measure, a site and the last level of this function
  asm volatile("" : : "r"(&cost) : "memory");
  return cost;
}

template <class Value>
std::string array(const std::vector<Value>& values) {
  std::string text;
  for (const Value value : values) text += (text.empty() ? "[" : ", ") + std::to_string(value);
  return text + "]";
}

}  // namespace

int main() {
  const std::vector<int> depths{3, 8, 16, 32};
  std::vector<double> known_stack_ns;
  std::vector<double> backtrace_ns;
  std::vector<double> ratio;
  AddressTable table;
  table.refresh();
  for (const int depth : depths) {
    const Cost cost = at_depth(depth, table);
    known_stack_ns.push_back(cost.known_stack_ns);
    backtrace_ns.push_back(cost.backtrace_ns);
    ratio.push_back(cost.known_stack_ns / cost.backtrace_ns);
  }
  std::cout << "{\"depths\": " << array(depths) << ", \"known_stack_ns\": " << array(known_stack_ns)
            << ", \"backtrace_ns\": " << array(backtrace_ns) << ", \"ratio\": " << array(ratio) << "}\n";
}
