// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Names distinct call stacks and applies the site table to them, once each; a known stack costs a hash and a
// comparison.
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

/// A distinct call stack.
struct Site {
  std::vector<std::uintptr_t> pc;  // innermost first, as captured
  std::string address;
  std::uint32_t id = 0;         // number in the table, from 0; changes after `refresh` has cleared the table
  std::optional<bool> control;  // from the site table; nothing: the argument of the call decides
  std::uint32_t scope_key = 0;  // number for the function of the scope and its outer frames; 0 = in no scope
  std::size_t scope_frame = 0;  // index of the frame of the scope in `pc`
  bool acceptance_test = false;
};

/// The elements of a draw of a tensor at one call site.
struct Elements {
  std::vector<std::string> index;  // "[0]", "[1]", ...
  std::vector<const Site*> site;
};

class AddressTable {
 public:
  /// Clears the table if the site table of the process has changed. Call it between runs only: runs refer to sites.
  void refresh();
  /// A new stack is checked first, and corrected if necessary (`confirm`): the function that captured it must still be
  /// executing.
  const Site& find(Stack& stack);
  /// The sites of the elements of a draw of this shape at a site.
  const Elements& elements(const Site& site, const std::vector<std::int32_t>& shape);
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
  std::map<std::pair<std::uint32_t, std::vector<std::int32_t>>, Elements> elements_;  // by the id of the site and shape
  std::unordered_map<std::uintptr_t, FrameName> frame_names_;
};

}  // namespace ppx::detail

#endif
