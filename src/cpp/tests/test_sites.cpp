// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Site tables: patterns, the file format, its errors.
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "check.hpp"
#include "sites.hpp"
#include "stack.hpp"

namespace {

using ppx::SiteRuleKind;
using ppx::SiteTable;
using ppx::SiteTableError;
using ppx::detail::function_name;
using ppx::detail::glob_match;

void globs() {
  CHECK(glob_match("a::b", "a::b"));
  CHECK(!glob_match("a::b", "a::bc"));
  CHECK(!glob_match("a::b", "xa::b"));
  CHECK(glob_match("PHOTONS::*", "PHOTONS::Photons::AddRadiation"));
  CHECK(glob_match("*::Get*Mass", "A::B::GetTheMass"));
  CHECK(glob_match("*a*b*", "xxabyab"));
  CHECK(glob_match("*ab", "aab"));
  CHECK(glob_match("*", ""));
  CHECK(!glob_match("*a", ""));
  CHECK(!glob_match("", "a"));
  CHECK(glob_match("a[b]?", "a[b]?"));  // only `*` is special
  CHECK(!glob_match("a?", "ab"));
}

void function_names() {
  CHECK_EQUAL(function_name("main"), "main");
  CHECK_EQUAL(function_name("a::f(double, std::vector<int> const&) const"), "a::f");
  CHECK_EQUAL(function_name("(anonymous namespace)::f(int)"), "(anonymous namespace)::f");
  CHECK_EQUAL(function_name("void std::shuffle<int*, G>(int*, int*, G&&)"), "std::shuffle<int*, G>");
  CHECK_EQUAL(function_name("std::pair<int, long> f<(E)1>(int)"), "f<(E)1>");
  CHECK_EQUAL(function_name("f(int)::{lambda(int)#1}::operator()(int) const"), "f(int)::{lambda(int)#1}::operator()");
  CHECK_EQUAL(function_name("A::operator bool() const"), "A::operator bool");
  CHECK_EQUAL(function_name("f(void (*)(int)) [clone .cold]"), "f");
  CHECK_EQUAL(function_name("f[abi:cxx11](int)"), "f[abi:cxx11]");
}

void rules_are_read_in_order() {
  const SiteTable table = SiteTable::parse(
      "# comment\n\nscope A::loop   # trailing\r\n  uncontrolled\tB::*\ncontrolled C::f*g\nadapter D::Get", "text");
  const auto& rules = table.rules();
  CHECK_EQUAL(rules.size(), std::size_t{4});
  CHECK(rules[0].kind == SiteRuleKind::scope && rules[0].pattern == "A::loop");
  CHECK(rules[1].kind == SiteRuleKind::uncontrolled && rules[1].pattern == "B::*");
  CHECK(rules[2].kind == SiteRuleKind::controlled && rules[2].pattern == "C::f*g");
  CHECK(rules[3].kind == SiteRuleKind::adapter && rules[3].pattern == "D::Get");
}

void errors_name_file_line_and_what_was_expected() {
  CHECK_ERROR(SiteTableError, SiteTable::parse("scope a\nscop b\n", "x.txt"), "x.txt:2", "expected `scope PATTERN`",
              "found `scop`");
  CHECK_ERROR(SiteTableError, SiteTable::parse("\n\nuncontrolled  # nothing\n", "x.txt"), "x.txt:3",
              "`uncontrolled` without a pattern");
  CHECK_ERROR(SiteTableError, SiteTable::load("no/such/file"), "no/such/file", "No such file");
  CHECK_ERROR(SiteTableError, SiteTable::load("."), "site table .");
}

void files_are_loaded() {
  const std::string path =
      (std::filesystem::temp_directory_path() / ("ppx-test-sites-" + std::to_string(getpid()))).string();
  std::ofstream(path) << "scope A::loop\nbad\n";
  CHECK_ERROR(SiteTableError, SiteTable::load(path), path + ":2");
  std::ofstream(path) << "scope A::loop\n";
  CHECK_EQUAL(SiteTable::load(path).rules().size(), std::size_t{1});
  std::ofstream(path) << "";
  CHECK_EQUAL(SiteTable::load(path).rules().size(), std::size_t{0});
  std::filesystem::remove(path);
}

}  // namespace

int main() {
  return run_tests({{"globs", globs},
                    {"function names", function_names},
                    {"rules are read in order", rules_are_read_in_order},
                    {"errors name file, line and what was expected", errors_name_file_line_and_what_was_expected},
                    {"files are loaded", files_are_loaded}});
}
