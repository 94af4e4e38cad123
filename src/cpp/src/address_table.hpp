// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Each distinct call stack is named and judged by the site table once; a known stack costs a hash and a comparison.
#ifndef PPX_SRC_ADDRESS_TABLE_HPP
#define PPX_SRC_ADDRESS_TABLE_HPP

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "sites.hpp"
#include "stack.hpp"

namespace ppx::detail {

/// What is known of a distinct stack.
struct Site {
  std::vector<std::uintptr_t> pc;  // innermost first, as captured
  std::string address;
  std::uint32_t id = 0;         // running number in the table, from 0; another one after `refresh` forgot everything
  std::optional<bool> control;  // from the site table; nothing = as the call says
  std::uint32_t scope_key = 0;  // the scope's function and the frames outside it, interned; 0 = in no scope
  std::size_t scope_frame = 0;  // index of the scope's frame in `pc`
  bool acceptance_test = false;
};

class AddressTable {
 public:
  /// Forgets everything if the process's site table has changed. Call between runs only: sites are referred to.
  void refresh();
  /// A stack that is new here is confirmed first, and put right if need be (`confirm`): capture it in a function that
  /// is still being executed.
  const Site& find(Stack& stack);
  std::size_t size() const { return sites_by_id_.size(); }

 private:
  struct Slot {
    std::uint64_t hash = 0;
    const Site* site = nullptr;  // null: free
  };

  Slot& slot_of(std::uint64_t hash, const Stack& stack);
  const Site& add(std::uint64_t hash, Stack& stack);
  void grow();
  std::unique_ptr<Site> resolve(const Stack& stack);
  void judge(Site& site, const std::vector<FrameName>& names, std::size_t innermost);
  void find_scope(Site& site, const std::vector<FrameName>& names, std::size_t innermost);

  using ScopeKey = std::pair<std::string, std::vector<std::uintptr_t>>;

  CurrentSites sites_{nullptr, 0};
  std::vector<std::unique_ptr<Site>> sites_by_id_;
  std::vector<Slot> slots_ = std::vector<Slot>(1024);  // open addressing, at most half full
  std::map<ScopeKey, std::uint32_t> scope_keys_;
  std::unordered_map<std::uintptr_t, FrameName> frame_names_;
};

}  // namespace ppx::detail

#endif
