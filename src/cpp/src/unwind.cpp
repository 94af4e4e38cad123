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

  /// The reference is good until the next call.
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
    if (!rule) return unknown_;  // not kept: code may be loaded there later
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

/// A frame at its call into the next inner one, and how its caller's rbp came to be known.
struct Step {
  std::uintptr_t pc;
  std::uintptr_t rsp;
  std::uintptr_t rbp;
  std::uintptr_t slot;  // where rbp was found; the return address' place if the frame further in left rbp alone
  std::uintptr_t in_slot;

  bool same_state(const Step& other) const { return pc == other.pc && rsp == other.rsp && rbp == other.rbp; }
  /// Whether the stack still says what made this step out of the one before it.
  bool holds() const { return load(rsp - 8) == pc && load(slot) == in_slot; }
};

/// Walks, and remembers the last walk. Where a walk gets into the state (pc, rsp, rbp) of one of the remembered steps,
/// the rest is as it was if the places that the remembered walk read from there on hold what they held: those loads do
/// not wait for each other as a walk's do. All of them lie further out than the frame that is known to be alive.
class Walker {
 public:
  [[gnu::noinline]] bool walk(std::uintptr_t inner, std::uintptr_t outer, Stack& stack) {
    if (outer != outer_) forget();
    outer_ = outer;
    count_ = 0;
    // A function that asks for its frame address pushes rbp first and keeps the address in rbp.
    Step now{load(inner + 8), inner + 16, load(inner), inner, load(inner)};
    std::size_t kept = top_;
    while (now.rsp <= outer && count_ < most) {
      while (kept < most && steps_[kept].rsp < now.rsp) ++kept;
      if (kept < most && steps_[kept].same_state(now)) {
        steps_[kept] = now;  // the frame further in may be another: rbp was found elsewhere
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

  /// To the caller's frame.
  bool advance(Step& now) {
    const FrameRule rule = now.pc == 0 ? FrameRule{} : rules_.find(now.pc);
    if (rule.kind == FrameRule::Kind::unknown) return false;
    const std::uintptr_t cfa = (rule.kind == FrameRule::Kind::from_rbp ? now.rbp : now.rsp) + rule.cfa_offset;
    // Frames follow each other outwards, and what one has saved lies within it.
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

  /// The new steps and then the remembered ones from `kept` on.
  bool finish(std::size_t kept, Stack& stack) {
    const bool fits = count_ <= kept;
    for (std::size_t i = 0; i < count_; ++i) put(stack, i, new_[i]);
    for (std::size_t i = count_; i < most && kept + i - count_ < most; ++i) put(stack, i, steps_[kept + i - count_]);
    // The outermost is the front end's function that calls forward, or one frame too many.
    const std::size_t size = std::min(most, count_ + most - kept);
    stack.size = size == 0 ? 0 : size - 1;
    if (fits && count_ < most) {
      top_ = kept - count_;
      std::copy_n(new_.begin(), count_, steps_.begin() + static_cast<std::ptrdiff_t>(top_));
    } else {
      forget();  // cut at the limit: it did not get to `outer`
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
  std::size_t count_ = 0;   // of the new steps of this one
  std::array<Step, most> steps_;
  std::array<Step, most> new_;
};

}  // namespace

bool fast_capture(const void* inner, const void* outer, Stack& stack) {
  thread_local Walker walker;  // of the thread, not of the process: no locks
  return walker.walk(reinterpret_cast<std::uintptr_t>(inner), reinterpret_cast<std::uintptr_t>(outer), stack);
}

}  // namespace ppx::detail

#else

namespace ppx::detail {

bool fast_capture(const void*, const void*, Stack&) { return false; }

}  // namespace ppx::detail

#endif
