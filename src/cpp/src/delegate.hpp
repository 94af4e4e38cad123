// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Runs that the front end carries out according to a request (docs/explain-delegated-runs.md).
#ifndef PPX_SRC_DELEGATE_HPP
#define PPX_SRC_DELEGATE_HPP

#include <cstddef>
#include <cstdint>
#include <vector>

#include "random.hpp"
#include "record.hpp"
#include "request.hpp"
#include "run.hpp"
#include "tables.hpp"

namespace ppx::detail {

/// Asks the inference side for a draw of an assisted run.
class Asker {
 public:
  Asker() = default;
  Asker(const Asker&) = delete;
  Asker& operator=(const Asker&) = delete;
  virtual ~Asker() = default;
  virtual Answer ask(const Event& event, std::uint32_t instance) = 0;
};

/// Carries out and records the runs of one request.
///
/// Prior: every entry is drawn from Generator(seed), as in `run_local` with the same seed.
/// Replay: the first `prefix` rows are replayed by position, as first repetitions of their scopes. A scope that began
/// among them is called open. After the prefix:
///   - Outside scopes, or in an open one, a controlled entry takes the value of the row with the same address, if that
///     row is also controlled, also outside scopes or in an open one, and has the same support. All others are drawn.
///   - In a scope that begins later, every entry is drawn.
///   - If an open scope begins another repetition, the run is lost and ends.
/// Proposed rows: the n-th controlled entry takes the value of row n if address, prior and scope are those of the row,
/// in repetition 0. A row with NaN leaves its entry to the generator, and the whole scope if the entry is the first of
/// one. From the first controlled entry that differs from its row on, every entry is drawn.
class Delegate final : public Peer {
 public:
  Delegate(Tables& tables, Record& record, const Observations& observations, const RunRequest& request, Asker* asker);

  void begin(std::uint64_t seed);
  void end(const Tensor& result);

  double sample(const Event& event, const Site& site) override;
  void observe(const Event& event, const Site& site) override;
  void tag(const Event& event, const Site& site) override;

  /// Whether the run was ended early (lost or mismatch); the rest of `forward` is ignored then.
  bool over() const { return over_; }

 private:
  struct Choice {
    double value;
    std::int32_t row;
  };

  void follow_scope(const Event& event);
  Choice choose(const Event& event, const KnownKey& key, std::uint32_t instance, const KnownPrior& prior);
  Choice replay(const Event& event, std::uint32_t place);
  bool is_next_row(const Event& event, std::uint32_t address, std::uint32_t prior) const;
  std::int32_t proposed_row(const Event& event, const KnownKey& key, std::uint32_t prior);
  Choice ask(const Event& event, std::uint32_t instance);
  std::int32_t find_row(const Event& event, std::uint32_t place, std::uint64_t support) const;
  void compare(std::int32_t row, double log_density);
  void record(const Event& event, const KnownPrior& prior, std::uint32_t address, const Choice& choice);
  bool is_open(std::uint32_t scope) const { return scope != 0 && scope <= open_; }
  [[noreturn]] void end_early(std::uint32_t flag);
  void require_running() const;

  Tables& tables_;
  Record& record_;
  const Observations& observations_;
  const RunRequest& request_;
  Asker* asker_;
  std::vector<std::int32_t> row_of_place_;
  std::uint32_t rows_open_ = 0;  // number of the last scope that began within the prefix

  Generator generator_{0};
  Generator observation_generator_{0};
  TraceRecord trace_{};
  std::size_t first_entry_ = 0;
  std::size_t first_observe_ = 0;
  std::size_t first_tag_ = 0;
  std::uint32_t replayed_ = 0;
  std::size_t next_row_ = 0;  // the next proposed row
  std::uint32_t open_ = 0;
  std::uint32_t scope_ = 0;
  std::uint32_t repetition_ = 0;
  std::size_t scope_start_ = 0;
  double log_prior_at_scope_ = 0.0;
  double log_ratio_at_scope_ = 0.0;
  std::vector<std::uint32_t> counted_;  // bases executed in the current repetition
  std::uint32_t handed_scope_ = 0;
  bool rest_handed_over_ = false;
  bool over_ = false;
};

}  // namespace ppx::detail

#endif
