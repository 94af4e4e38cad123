// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include "unwind.hpp"

#include "unwind_rules.hpp"

#if PPX_FAST_WALK

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <tuple>
#include <vector>

namespace ppx::detail {
namespace {

std::uintptr_t load(std::uintptr_t address) { return *reinterpret_cast<const std::uintptr_t*>(address); }

/// Rules by return address. Open addressing, at most half full.
class RuleCache {
 public:
  RuleCache() : slots_(1024) {}

  /// The reference is valid until the next call.
  const FrameRule& find(std::uintptr_t pc) {
    Slot& slot = slot_of(pc);
    return slot.pc == pc ? slot.rule : add(pc);
  }

 private:
  struct Slot {
    std::uintptr_t pc = 0;  // 0: free
    FrameRule rule;
  };

  Slot& slot_of(std::uintptr_t pc) {
    std::size_t i = (pc * 0x9e3779b97f4a7c15U) >> 32U;
    for (;; ++i) {
      Slot& slot = slots_[i & (slots_.size() - 1)];
      if (slot.pc == pc || slot.pc == 0) return slot;
    }
  }

  [[gnu::noinline]] const FrameRule& add(std::uintptr_t pc) {
    const std::optional<FrameRule> rule = find_frame_rule(pc);
    if (!rule) return unknown_;  // not cached: code may be loaded there later
    if (2 * ++used_ > slots_.size()) grow();
    Slot& slot = slot_of(pc);
    slot = {pc, *rule};
    return slot.rule;
  }

  void grow() {
    std::vector<Slot> old(2 * slots_.size());
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.pc != 0) slot_of(slot.pc) = slot;
    }
  }

  std::vector<Slot> slots_;
  std::size_t used_ = 0;
  FrameRule unknown_;
};

/// A frame at its call of the next inner one, and where its rbp was found.
struct Step {
  std::uintptr_t pc;
  std::uintptr_t rsp;
  std::uintptr_t rbp;
  std::uintptr_t slot;  // where rbp was found; the location of the return address if the inner frame did not change rbp
  std::uintptr_t in_slot;

  bool same_state(const Step& other) const { return pc == other.pc && rsp == other.rsp && rbp == other.rbp; }
  /// Whether the stack still has the values from which this step was computed.
  bool holds() const { return load(rsp - 8) == pc && load(slot) == in_slot; }
};

/// Walks the stack, and remembers the last walk. If a walk reaches the state (pc, rsp, rbp) of a remembered step, the
/// rest is the same if the locations that the remembered walk read from there on are unchanged. These loads do not
/// depend on each other, unlike those of a walk. All of them are in frames that are still alive.
class Walker {
 public:
  [[gnu::noinline]] bool walk(std::uintptr_t inner, std::uintptr_t outer, Stack& stack) {
    if (outer != outer_) forget();
    outer_ = outer;
    count_ = 0;
    // A function that uses its frame address pushes rbp first and keeps the address in rbp.
    Step now{load(inner + 8), inner + 16, load(inner), inner, load(inner)};
    std::size_t kept = top_;
    while (now.rsp <= outer && count_ < most) {
      while (kept < most && steps_[kept].rsp < now.rsp) ++kept;
      if (kept < most && steps_[kept].same_state(now)) {
        steps_[kept] = now;  // the inner frame may differ, so that rbp was found elsewhere
        const std::size_t wrong = first_wrong(kept + 1);
        if (wrong == most) return finish(kept, stack);
        take(kept, wrong);
        now = steps_[wrong - 1];
        kept = wrong;
      } else {
        new_[count_++] = now;
      }
      if (!advance(now)) return give_up();
    }
    return finish(most, stack);
  }

 private:
  static constexpr std::size_t most = std::tuple_size_v<decltype(Stack::pc)>;

  /// Steps to the frame of the caller.
  bool advance(Step& now) {
    const FrameRule rule = now.pc == 0 ? FrameRule{} : rules_.find(now.pc);
    if (rule.kind == FrameRule::Kind::unknown) return false;
    const std::uintptr_t cfa = (rule.kind == FrameRule::Kind::from_rbp ? now.rbp : now.rsp) + rule.cfa_offset;
    // Frames are consecutive, and a saved register is within its frame.
    if (cfa <= now.rsp || cfa > outer_ + 16 || cfa - now.rsp < rule.rbp_below_cfa) return false;
    now.rsp = cfa;
    now.pc = load(cfa - 8);
    now.slot = cfa - 8;
    now.in_slot = now.pc;
    if (rule.rbp_below_cfa != 0) {
      now.slot = cfa - rule.rbp_below_cfa;
      now.rbp = now.in_slot = load(now.slot);
    }
    return true;
  }

  std::size_t first_wrong(std::size_t from) const {
    while (from < most && steps_[from].holds()) ++from;
    return from;
  }

  void take(std::size_t from, std::size_t to) {
    for (; from < to && count_ < most; ++from) new_[count_++] = steps_[from];
  }

  /// The new steps, followed by the remembered ones from `kept` on.
  bool finish(std::size_t kept, Stack& stack) {
    const bool fits = count_ <= kept;
    for (std::size_t i = 0; i < count_; ++i) put(stack, i, new_[i]);
    for (std::size_t i = count_; i < most && kept + i - count_ < most; ++i) put(stack, i, steps_[kept + i - count_]);
    // The outermost frame is the function that calls forward, or one frame too many.
    const std::size_t size = std::min(most, count_ + most - kept);
    stack.size = size == 0 ? 0 : size - 1;
    if (fits && count_ < most) {
      top_ = kept - count_;
      std::copy_n(new_.begin(), count_, steps_.begin() + static_cast<std::ptrdiff_t>(top_));
    } else {
      forget();  // ended at the limit, before `outer`
    }
    return true;
  }

  static void put(Stack& stack, std::size_t i, const Step& step) {
    stack.pc[i] = step.pc;
    stack.frame[i] = step.rsp;
  }

  bool give_up() {
    forget();
    return false;
  }
  void forget() { top_ = most; }

  RuleCache rules_;
  std::uintptr_t outer_ = 0;
  std::size_t top_ = most;  // the last walk is steps_[top_...], innermost first
  std::size_t count_ = 0;   // number of new steps of this walk
  std::array<Step, most> steps_;
  std::array<Step, most> new_;
};

}  // namespace

bool fast_capture(const void* inner, const void* outer, Stack& stack) {
  thread_local Walker walker;  // thread-local, to need no locks
  return walker.walk(reinterpret_cast<std::uintptr_t>(inner), reinterpret_cast<std::uintptr_t>(outer), stack);
}

}  // namespace ppx::detail

#else

namespace ppx::detail {

bool fast_capture(const void*, const void*, Stack&) { return false; }

}  // namespace ppx::detail

#endif
