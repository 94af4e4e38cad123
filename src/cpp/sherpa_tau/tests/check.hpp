// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: GPL-3.0-or-later

#ifndef ETALUMIS_SHERPA_TAU_TESTS_CHECK_HPP
#define ETALUMIS_SHERPA_TAU_TESTS_CHECK_HPP

#include <iostream>
#include <string>

namespace sherpa_tau::tests {

// Counts what failed and says so: a test program returns `failures() > 0`.
inline int& failures() {
  static int count = 0;
  return count;
}

inline bool check(bool holds, const std::string& what) {
  if (!holds) {
    ++failures();
    std::cerr << "FAILED: " << what << '\n';
  }
  return holds;
}

}  // namespace sherpa_tau::tests

#endif
