// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// The common main program of the example simulators: arguments, signals, exit codes.
#ifndef PPX_EXAMPLES_PROGRAM_HPP
#define PPX_EXAMPLES_PROGRAM_HPP

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "ppx/ppx.hpp"

struct Arguments {
  std::string endpoint = "tcp://127.0.0.1:5555";
  std::uint64_t local_runs = 0;  // 0: serve
  std::optional<double> measured_s;
  std::uint64_t seed = 0;
  bool entries = false;  // print every statement of local runs
  std::string sites;     // file, empty: none
  double idle_timeout_s = 0.0;
  std::uint64_t workers = 0;               // 0: serve from this process
  bool pin = false;                        // each worker to a core
  std::map<std::string, std::string> own;  // options of the example, by name without `--`; flags are "yes"
};

/// An option of the example: `--NAME` (a flag, value_word empty) or `--NAME VALUE_WORD`.
struct OwnOption {
  std::string value_word;
  std::string help;
};

/// May change the arguments.
using MakeModel = std::function<std::unique_ptr<ppx::Model>(Arguments&)>;

/// Serves the model, or runs it locally. Exit codes: 0 success, 1 error (one line on standard error), 2 wrong usage.
int run_program(int argc, char** argv, const std::string& description, const std::map<std::string, OwnOption>& own,
                const MakeModel& make_model);

#endif
