// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// A Metropolis-Hastings chain in the front end: the kernel of etalumis.inference.kernel, with one model run and no
// message per step. See that module for the derivation.
#ifndef PPX_SRC_CHAIN_HPP
#define PPX_SRC_CHAIN_HPP

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "random.hpp"
#include "record.hpp"
#include "request.hpp"
#include "tables.hpp"

namespace ppx::detail {

/// Makes the steps of a chain. The caller carries out the `request` of each run, and calls `take` when the trace of the
/// run has been appended to the record.
class Chain {
 public:
  Chain(const Tables& tables, Record& record, const RunRequest& request);

  /// Prepares the next run; false if all steps are done or no further step is possible. The first run replays the
  /// initial trace.
  bool next();
  const RunRequest& request() const { return run_; }
  std::uint64_t seed() const { return run_seed_; }
  /// Takes the trace at the end of the record as the result of the requested run.
  void take();

 private:
  struct State {
    std::vector<std::size_t> candidates;
    std::vector<std::size_t> focused;
    double log_likelihood = 0.0;
  };
  struct Move {
    std::optional<std::size_t> position;  // nothing: all entries are redrawn
    double log_ratio = 0.0;
    bool keep = false;
  };

  bool propose();
  void plan(const Move& move, double value);
  State state_of_last();
  double log_likelihood_of_last() const;
  double log_acceptance(const State& now) const;
  double log_choice(const State& state) const;
  void go_to_last(State state);
  void note(std::uint32_t flags);
  bool is_focused(std::uint32_t name);

  const Tables& tables_;
  Record& record_;
  const ChainRequest& chain_;
  std::unordered_set<std::string> focus_;
  std::vector<std::optional<bool>> focused_;  // by number of the name; nothing if not determined yet
  RunRequest run_;                            // the next run
  std::uint64_t seed_;                        // of the chain
  std::uint64_t run_seed_;                    // of the run
  std::uint64_t step_ = 0;                    // number of steps made
  bool started_ = false;
  bool over_ = false;
  Generator generator_{0};
  State state_;
  std::vector<EntryRecord> rows_;  // of the state
  std::vector<DetailRecord> row_details_;
  Move move_;
  Record::Mark mark_;
};

}  // namespace ppx::detail

#endif
