// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include "address_table.hpp"

#include <algorithm>

#include "elements.hpp"

namespace ppx::detail {
namespace {

// Four lanes, because the multiplications of a single one would depend on each other.
std::uint64_t hash(const Stack& stack) {
  constexpr std::uint64_t odd = 0x9e3779b97f4a7c15U;
  std::uint64_t lane[4] = {stack.size, 1, 2, 3};
  const auto mix = [](std::uint64_t& h, std::uintptr_t pc) {
    h = (h ^ pc) * odd;
    h ^= h >> 32U;
  };
  std::size_t i = 0;
  for (; i + 4 <= stack.size; i += 4) {
    mix(lane[0], stack.pc[i]);
    mix(lane[1], stack.pc[i + 1]);
    mix(lane[2], stack.pc[i + 2]);
    mix(lane[3], stack.pc[i + 3]);
  }
  for (; i < stack.size; ++i) mix(lane[0], stack.pc[i]);
  mix(lane[0], lane[1]);
  mix(lane[2], lane[3]);
  mix(lane[0], lane[2]);
  return lane[0];
}

bool same(const Site& site, const Stack& stack) {
  return site.pc.size() == stack.size && std::equal(site.pc.begin(), site.pc.end(), stack.pc.begin());
}

bool matches(const SiteRule& rule, SiteRuleKind kind, const std::string& function) {
  return rule.kind == kind && glob_match(rule.pattern, function);
}

bool any_rule(const SiteTable& table, SiteRuleKind kind, const std::string& function) {
  const auto& rules = table.rules();
  return std::any_of(rules.begin(), rules.end(), [&](const SiteRule& rule) { return matches(rule, kind, function); });
}

std::string join(const std::vector<FrameName>& names, std::size_t innermost) {
  std::string address = "[";
  for (std::size_t i = names.size(); i-- > innermost;) {
    if (i + 1 < names.size()) address += "; ";
    address += names[i].label;
  }
  return address + "]";
}

}  // namespace

void AddressTable::refresh() {
  CurrentSites now = current_sites();
  if (now.version == sites_.version) return;
  sites_ = std::move(now);
  sites_by_id_.clear();
  slots_.assign(slots_.size(), {});
  scope_keys_.clear();
  elements_.clear();
}

const Site& AddressTable::find(Stack& stack) {
  const std::uint64_t h = hash(stack);
  const Slot& slot = slot_of(h, stack);
  return slot.site != nullptr ? *slot.site : add(h, stack);
}

const Elements& AddressTable::elements(const Site& site, const std::vector<std::int32_t>& shape) {
  const auto [found, is_new] = elements_.try_emplace({site.id, shape});
  if (!is_new) return found->second;
  Elements& elements = found->second;
  elements.index = element_indices(shape);
  for (const std::string& index : elements.index) {
    auto element = std::make_unique<Site>(site);
    element->address += index;
    element->id = static_cast<std::uint32_t>(size());
    elements.site.push_back(element.get());
    sites_by_id_.push_back(std::move(element));
  }
  return elements;
}

AddressTable::Slot& AddressTable::slot_of(std::uint64_t hash, const Stack& stack) {
  for (std::size_t i = hash;; ++i) {
    Slot& slot = slots_[i & (slots_.size() - 1)];
    if (slot.site == nullptr || (slot.hash == hash && same(*slot.site, stack))) return slot;
  }
}

const Site& AddressTable::add(std::uint64_t hash, Stack& stack) {
  if (stack.fast && !confirm(stack)) return find(stack);
  std::unique_ptr<Site> site = resolve(stack);
  site->id = static_cast<std::uint32_t>(size());
  if (2 * (size() + 1) > slots_.size()) grow();
  slot_of(hash, stack) = {hash, site.get()};
  sites_by_id_.push_back(std::move(site));
  return *sites_by_id_.back();
}

void AddressTable::grow() {
  std::vector<Slot> old(2 * slots_.size());
  old.swap(slots_);
  for (const Slot& slot : old) {
    std::size_t i = slot.hash;
    if (slot.site == nullptr) continue;
    while (slots_[i & (slots_.size() - 1)].site != nullptr) ++i;
    slots_[i & (slots_.size() - 1)] = slot;
  }
}

std::unique_ptr<Site> AddressTable::resolve(const Stack& stack) {
  auto site = std::make_unique<Site>();
  site->pc.assign(stack.pc.begin(), stack.pc.begin() + static_cast<std::ptrdiff_t>(stack.size));
  std::vector<FrameName> names;
  names.reserve(stack.size);
  for (const std::uintptr_t pc : site->pc) {
    // Stacks share frames: each name is looked up and demangled once.
    const auto [known, is_new] = frame_names_.try_emplace(pc);
    if (is_new) known->second = name_frame(pc);
    names.push_back(known->second);
  }
  std::size_t innermost = 0;
  while (innermost + 1 < names.size() && any_rule(*sites_.table, SiteRuleKind::adapter, names[innermost].function)) {
    ++innermost;
  }
  site->address = join(names, innermost);
  judge(*site, names, innermost);
  return site;
}

void AddressTable::judge(Site& site, const std::vector<FrameName>& names, std::size_t innermost) {
  const auto first = names.begin() + static_cast<std::ptrdiff_t>(innermost);
  for (const SiteRule& rule : sites_.table->rules()) {
    if (rule.kind != SiteRuleKind::controlled && rule.kind != SiteRuleKind::uncontrolled) continue;
    const auto hit = [&](const FrameName& name) { return glob_match(rule.pattern, name.function); };
    if (std::any_of(first, names.end(), hit)) {
      site.control = rule.kind == SiteRuleKind::controlled;
      break;
    }
  }
  find_scope(site, names, innermost);
}

void AddressTable::find_scope(Site& site, const std::vector<FrameName>& names, std::size_t innermost) {
  for (std::size_t i = names.size(); i-- > innermost;) {
    if (!any_rule(*sites_.table, SiteRuleKind::scope, names[i].function)) continue;
    ScopeKey key{names[i].function, {site.pc.begin() + static_cast<std::ptrdiff_t>(i) + 1, site.pc.end()}};
    const auto next = static_cast<std::uint32_t>(scope_keys_.size() + 1);
    site.scope_key = scope_keys_.emplace(std::move(key), next).first->second;
    site.scope_frame = i;
    site.acceptance_test = i == innermost;
    return;
  }
}

}  // namespace ppx::detail
