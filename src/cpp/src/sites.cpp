// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include "sites.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <mutex>
#include <sstream>

namespace ppx {
namespace {

constexpr std::string_view blanks = " \t\r";

std::string_view strip(std::string_view text) {
  const auto first = text.find_first_not_of(blanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

[[noreturn]] void fail(const std::string& origin, std::size_t line, const std::string& found) {
  throw SiteTableError("ppx: " + origin + ":" + std::to_string(line) +
                       ": expected `scope PATTERN`, `uncontrolled PATTERN`, `controlled PATTERN`, `adapter PATTERN` or "
                       "a `#` comment, found " +
                       found);
}

SiteRule parse_rule(std::string_view line, const std::string& origin, std::size_t number) {
  static constexpr struct {
    std::string_view word;
    SiteRuleKind kind;
  } words[] = {{"scope", SiteRuleKind::scope},
               {"uncontrolled", SiteRuleKind::uncontrolled},
               {"controlled", SiteRuleKind::controlled},
               {"adapter", SiteRuleKind::adapter}};
  const auto end = std::min(line.find_first_of(blanks), line.size());
  const std::string_view word = line.substr(0, end);
  const auto* known = std::find_if(std::begin(words), std::end(words), [&](const auto& w) { return w.word == word; });
  if (known == std::end(words)) fail(origin, number, "`" + std::string(word) + "`");
  const std::string_view pattern = strip(line.substr(end));
  if (pattern.empty()) fail(origin, number, "`" + std::string(word) + "` without a pattern");
  return {known->kind, std::string(pattern)};
}

struct Holder {
  std::mutex mutex;
  detail::CurrentSites current{std::make_shared<SiteTable>(), 1};
};

Holder& holder() {
  static Holder instance;
  return instance;
}

}  // namespace

SiteTable SiteTable::parse(std::string_view text, const std::string& origin) {
  std::vector<SiteRule> rules;
  std::size_t number = 0;
  while (!text.empty()) {
    ++number;
    const auto end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    line = strip(line.substr(0, line.find('#')));
    if (!line.empty()) rules.push_back(parse_rule(line, origin, number));
  }
  return SiteTable(std::move(rules));
}

SiteTable SiteTable::load(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  // A read error of a non-regular file appears late, and an empty file sets failbit of the output only.
  if (file && file.peek() != std::ifstream::traits_type::eof()) text << file.rdbuf();
  if (!file.is_open() || file.bad()) {
    throw SiteTableError("ppx: cannot read the site table " + path + ": " + std::strerror(errno) +
                         "; give the path of a readable text file");
  }
  return parse(text.str(), path);
}

void set_sites(SiteTable table) {
  Holder& h = holder();
  const std::lock_guard<std::mutex> lock(h.mutex);
  h.current.table = std::make_shared<const SiteTable>(std::move(table));
  ++h.current.version;
}

namespace detail {

CurrentSites current_sites() {
  Holder& h = holder();
  const std::lock_guard<std::mutex> lock(h.mutex);
  return h.current;
}

bool glob_match(std::string_view pattern, std::string_view text) {
  std::size_t p = 0;
  std::size_t t = 0;
  std::size_t star = std::string_view::npos;  // the last `*`, and the start of its match in the text
  std::size_t run = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      run = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++run;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

}  // namespace detail
}  // namespace ppx
