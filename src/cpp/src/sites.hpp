// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#ifndef PPX_SRC_SITES_HPP
#define PPX_SRC_SITES_HPP

#include <cstdint>
#include <memory>
#include <string_view>

#include "ppx/ppx.hpp"

namespace ppx::detail {

/// `*` matches any characters, everything else itself.
bool glob_match(std::string_view pattern, std::string_view text);

/// The site table of the process, and a number that changes with it.
struct CurrentSites {
  std::shared_ptr<const SiteTable> table;
  std::uint64_t version;
};
CurrentSites current_sites();

}  // namespace ppx::detail

#endif
