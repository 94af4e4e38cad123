// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// A test program is a list of named functions. A failed check throws; the program reports it and continues.
#ifndef PPX_TESTS_CHECK_HPP
#define PPX_TESTS_CHECK_HPP

#include <functional>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

struct CheckFailed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] inline void check_failed(const char* file, int line, const std::string& what) {
  throw CheckFailed(std::string(file) + ":" + std::to_string(line) + ": " + what);
}

#define CHECK(condition)                                            \
  do {                                                              \
    if (!(condition)) check_failed(__FILE__, __LINE__, #condition); \
  } while (false)

#define CHECK_EQUAL(found, expected)                                                     \
  do {                                                                                   \
    const auto& found_value = (found);                                                   \
    const auto& expected_value = (expected);                                             \
    if (!(found_value == expected_value)) {                                              \
      std::ostringstream message;                                                        \
      message << #found << ": expected " << expected_value << ", found " << found_value; \
      check_failed(__FILE__, __LINE__, message.str());                                   \
    }                                                                                    \
  } while (false)

/// The statement must throw the error with a message that contains all given parts.
template <typename Error, typename Statement>
void expect_error(const char* file, int line, Statement&& statement, const std::vector<std::string>& parts) {
  try {
    statement();
  } catch (const Error& error) {
    for (const std::string& part : parts) {
      if (std::string(error.what()).find(part) == std::string::npos) {
        check_failed(file, line, "expected `" + part + "` in the message `" + error.what() + "`");
      }
    }
    return;
  }
  check_failed(file, line, "expected an error, none was thrown");
}

#define CHECK_ERROR(Error, statement, ...) expect_error<Error>(__FILE__, __LINE__, [&] { statement; }, {__VA_ARGS__})

using Tests = std::vector<std::pair<std::string, std::function<void()>>>;

inline int run_tests(const Tests& tests) {
  int failures = 0;
  for (const auto& [name, test] : tests) {
    try {
      test();
      std::cout << "ok   " << name << '\n';
    } catch (const std::exception& error) {
      ++failures;
      std::cout << "FAIL " << name << ": " << error.what() << '\n';
    }
  }
  return failures == 0 ? 0 : 1;
}

#endif
