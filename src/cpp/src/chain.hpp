// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// A Metropolis-Hastings chain made on this side: the kernel of etalumis.inference.kernel, one model run a step and no
// message. That module has the derivation; what is here says the same in C++.
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

/// Steps from one trace to the next. Whoever runs the model asks for the `request` of each run and says when its trace
/// is at the end of the record.
class Chain {
 public:
  Chain(const Tables& tables, Record& record, const RunRequest& request);

  /// What to run next; false: no more steps are wanted, or none can be made. The first run is the trace to start from.
  bool next();
  const RunRequest& request() const { return run_; }
  std::uint64_t seed() const { return run_seed_; }
  /// The run that was asked for is in the record.
  void take();

 private:
  struct State {
    std::vector<std::size_t> candidates;
    std::vector<std::size_t> focused;
    double log_likelihood = 0.0;
  };
  struct Move {
    std::optional<std::size_t> position;  // nothing: all are redrawn
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
  const ChainRequest& wanted_;
  std::unordered_set<std::string> focus_;
  std::vector<std::optional<bool>> focused_;  // by number of the name, where it was asked for
  RunRequest run_;                            // what is run next
  std::uint64_t seed_;                        // of the chain
  std::uint64_t run_seed_;                    // of the run
  std::uint64_t step_ = 0;                    // how many were made
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
