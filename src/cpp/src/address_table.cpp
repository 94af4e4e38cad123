// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include "address_table.hpp"

#include <algorithm>

namespace ppx::detail {
namespace {

std::uint64_t hash(const Stack& stack) {
  std::uint64_t h = stack.size;
  for (std::size_t i = 0; i < stack.size; ++i) {
    h = (h ^ stack.pc[i]) * 0x9e3779b97f4a7c15U;
    h ^= h >> 32U;
  }
  return h;
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
  by_hash_.clear();
  scope_keys_.clear();
  size_ = 0;
}

const Site& AddressTable::find(const Stack& stack) {
  auto& bucket = by_hash_[hash(stack)];
  for (const auto& site : bucket) {
    if (same(*site, stack)) return *site;
  }
  bucket.push_back(resolve(stack));
  ++size_;
  return *bucket.back();
}

std::unique_ptr<Site> AddressTable::resolve(const Stack& stack) {
  auto site = std::make_unique<Site>();
  site->pc.assign(stack.pc.begin(), stack.pc.begin() + static_cast<std::ptrdiff_t>(stack.size));
  std::vector<FrameName> names;
  names.reserve(stack.size);
  for (const std::uintptr_t pc : site->pc) names.push_back(name_frame(pc));
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
