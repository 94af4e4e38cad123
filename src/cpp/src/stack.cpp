// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include "stack.hpp"

#include <cxxabi.h>
#include <dlfcn.h>
#include <unwind.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>

#include "unwind.hpp"

namespace ppx::detail {
namespace {

std::atomic<bool> fast_walk_on{true};
std::atomic<std::uint64_t> fast_walk_error_count{0};

struct Walk {
  std::uintptr_t inner;
  std::uintptr_t outer;
  Stack* stack;
  bool closed;  // the walk reached the call of forward, or the limit
};

// For each frame, the unwinder reports the stack pointer at its call of the next inner one. It is below the frame
// address of the frame and above all inner frames. The comparisons below therefore do not depend on inlining within the
// front end.
_Unwind_Reason_Code visit(_Unwind_Context* context, void* data) {
  auto& walk = *static_cast<Walk*>(data);
  const auto frame = static_cast<std::uintptr_t>(_Unwind_GetCFA(context));
  if (frame <= walk.inner) return _URC_NO_REASON;
  Stack& stack = *walk.stack;
  if (frame > walk.outer || stack.size == stack.pc.size()) {
    walk.closed = true;
    return _URC_END_OF_STACK;
  }
  const auto pc = static_cast<std::uintptr_t>(_Unwind_GetIP(context));
  if (pc == 0) return _URC_END_OF_STACK;
  stack.pc[stack.size] = pc;
  stack.frame[stack.size] = frame;
  ++stack.size;
  return _URC_NO_REASON;
}

void slow_capture(const void* inner, const void* outer, Stack& stack) {
  stack.size = 0;
  Walk walk{reinterpret_cast<std::uintptr_t>(inner), reinterpret_cast<std::uintptr_t>(outer), &stack, false};
  _Unwind_Backtrace(visit, &walk);
  // The outermost frame of a complete walk is the function that calls forward; after a walk that ended at the limit, it
  // is one frame too many.
  if ((walk.closed || stack.size == stack.pc.size()) && stack.size > 0) --stack.size;
}

std::string hexadecimal(std::uintptr_t value) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string text;
  do {
    text.insert(text.begin(), digits[value & 15U]);
    value >>= 4U;
  } while (value != 0);
  return "+0x" + text;
}

std::string demangle(const char* symbol) {
  struct Free {
    void operator()(char* text) const { std::free(text); }
  };
  int status = 0;
  const std::unique_ptr<char, Free> text(abi::__cxa_demangle(symbol, nullptr, nullptr, &status));
  return status == 0 && text ? text.get() : symbol;
}

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

void drop_qualifiers(std::string_view& name) {
  for (bool changed = true; changed;) {
    changed = false;
    if (const auto clone = name.rfind(" [clone"); clone != std::string_view::npos) {
      name = name.substr(0, clone);
      changed = true;
    }
    for (const std::string_view word : {" const", " volatile", " &&", " &"}) {
      if (ends_with(name, word)) {
        name.remove_suffix(word.size());
        changed = true;
      }
    }
  }
}

void drop_arguments(std::string_view& name) {
  if (!ends_with(name, ")")) return;
  int depth = 0;
  for (std::size_t i = name.size(); i-- > 0;) {
    if (name[i] == ')') ++depth;
    if (name[i] == '(' && --depth == 0) {
      // `f()::operator()` without an argument list is not changed.
      if (!ends_with(name.substr(0, i), "operator") || i + 2 != name.size()) name = name.substr(0, i);
      return;
    }
  }
}

/// Demangled names of template functions start with the return type: cut at the last space outside all brackets, unless
/// it is part of the name of an operator.
void drop_return_type(std::string_view& name) {
  if (name.find("operator") != std::string_view::npos) return;
  int depth = 0;
  for (std::size_t i = name.size(); i-- > 0;) {
    const char c = name[i];
    if (c == ')' || c == '>' || c == '}' || c == ']') ++depth;
    if (c == '(' || c == '<' || c == '{' || c == '[') --depth;
    if (c == ' ' && depth == 0) {
      name.remove_prefix(i + 1);
      return;
    }
  }
}

}  // namespace

void capture(const void* inner, const void* outer, Stack& stack) {
  stack.inner = inner;
  stack.outer = outer;
  stack.fast = fast_walk() && fast_capture(inner, outer, stack);
  if (!stack.fast) slow_capture(inner, outer, stack);
}

bool confirm(Stack& stack) {
  Stack slow;
  slow_capture(stack.inner, stack.outer, slow);
  const auto equal = [&](const auto& found, const auto& expected) {
    return std::equal(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(stack.size), expected.begin());
  };
  if (slow.size == stack.size && equal(stack.pc, slow.pc) && equal(stack.frame, slow.frame)) return true;
  ++fast_walk_error_count;
  set_fast_walk(false);
  slow.inner = stack.inner;
  slow.outer = stack.outer;
  stack = slow;
  return false;
}

bool fast_walk() { return fast_walk_on.load(std::memory_order_relaxed); }

void set_fast_walk(bool on) { fast_walk_on.store(on, std::memory_order_relaxed); }

std::uint64_t fast_walk_errors() { return fast_walk_error_count.load(std::memory_order_relaxed); }

std::string function_name(std::string_view demangled) {
  std::string_view name = demangled;
  drop_qualifiers(name);
  drop_arguments(name);
  drop_return_type(name);
  return std::string(name);
}

FrameName name_frame(std::uintptr_t pc) {
  Dl_info info{};
  // A call at the end of a function returns to the next function: look up the call itself.
  if (dladdr(reinterpret_cast<void*>(pc - 1), &info) == 0) return {"unknown", "unknown"};
  if (info.dli_sname != nullptr) {
    const std::string name = demangle(info.dli_sname);
    return {name + hexadecimal(pc - reinterpret_cast<std::uintptr_t>(info.dli_saddr)), function_name(name)};
  }
  std::string module = info.dli_fname != nullptr ? info.dli_fname : "unknown";
  module.erase(0, module.rfind('/') + 1);
  return {module + hexadecimal(pc - reinterpret_cast<std::uintptr_t>(info.dli_fbase)), module};
}

}  // namespace ppx::detail
