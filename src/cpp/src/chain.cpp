// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include "chain.hpp"

#include <cmath>
#include <limits>
#include <utility>

#include "draw.hpp"
#include "proposal.hpp"

namespace ppx::detail {
namespace {

/// The generator of a step, which depends only on the seed of the chain and the number of the step.
Generator generator_of(std::uint64_t seed, std::uint64_t step) {
  Generator numbers(seed ^ (step + 1) * 0x9e3779b97f4a7c15U);
  return Generator(numbers.next());
}

std::size_t index(Generator& generator, std::size_t count) {
  return static_cast<std::size_t>(generator.uniform() * static_cast<double>(count));
}

}  // namespace

Chain::Chain(const Tables& tables, Record& record, const RunRequest& request)
    : tables_(tables),
      record_(record),
      chain_(*request.chain),
      focus_(chain_.focus.begin(), chain_.focus.end()),
      run_(request),
      seed_(request.seeds[0]),
      run_seed_(request.seeds[0]),
      mark_(record.mark()) {}

bool Chain::next() {
  if (over_) return false;
  mark_ = record_.mark();
  if (!started_) return true;
  while (step_ < chain_.count) {
    generator_ = generator_of(seed_, chain_.first + step_);
    if (propose()) return true;
    ++step_;
  }
  return false;
}

/// Chooses a move; false if the model does not need to run.
bool Chain::propose() {
  const double kind = generator_.uniform();
  move_ = {};
  if (kind < chain_.redraw_share) {
    plan(move_, 0.0);
    return true;
  }
  if (state_.candidates.empty()) {
    note(step_flag::nothing);
    return false;
  }
  const bool tail = kind < chain_.redraw_share + chain_.tail_share;
  move_.keep = !tail;
  const bool focus = !tail && !state_.focused.empty() && generator_.uniform() < chain_.focus_share;
  const auto& among = focus ? state_.focused : state_.candidates;
  const std::size_t position = among[index(generator_, among.size())];
  move_.position = position;
  const Distribution prior = tables_.distribution(rows_[position].distribution);
  if (tail) {
    plan(move_, draw_scalar(prior, generator_));
    return true;
  }
  const Proposal proposal =
      detail::propose(prior, rows_[position].value, row_details_[position].log_prob, chain_.fresh_share, generator_);
  move_.log_ratio = proposal.log_ratio;
  if (proposal.log_ratio == -std::numeric_limits<double>::infinity() || !std::isfinite(proposal.value)) {
    note(0);  // the value has zero prior density
    return false;
  }
  plan(move_, proposal.value);
  return true;
}

void Chain::plan(const Move& move, double value) {
  run_seed_ = generator_.next();
  run_.rows.clear();
  run_.row_details.clear();
  run_.prefix = 0;
  if (!move.position) return;
  const std::size_t count = move.keep ? rows_.size() : *move.position + 1;
  run_.rows.assign(rows_.begin(), rows_.begin() + static_cast<std::ptrdiff_t>(count));
  run_.row_details.assign(row_details_.begin(), row_details_.begin() + static_cast<std::ptrdiff_t>(count));
  run_.rows[*move.position].value = value;
  run_.row_details[*move.position].log_prob = std::numeric_limits<double>::quiet_NaN();
  run_.prefix = static_cast<std::uint32_t>(*move.position + 1);
}

void Chain::take() {
  const TraceRecord& trace = record_.traces.back();
  const bool first = !started_;
  const bool lost = (trace.flags & trace_flag::lost) != 0;
  const double log_likelihood = log_likelihood_of_last();
  if ((trace.flags & trace_flag::mismatch) != 0 || (lost ? first : std::isnan(log_likelihood))) {
    over_ = true;  // its trace shows why
    if (!first) note(step_flag::run | step_flag::broken);
    return;
  }
  if (first) {
    started_ = true;
    go_to_last(state_of_last());
    record_.rewind(mark_);  // the inference side has this trace
    return;
  }
  std::uint32_t flags = step_flag::run | (lost ? step_flag::lost : 0U);
  bool accepted = false;
  if (!lost && log_likelihood != -std::numeric_limits<double>::infinity()) {
    State now = state_of_last();
    accepted = std::log(1.0 - generator_.uniform()) < log_acceptance(now);
    if (accepted) go_to_last(std::move(now));
  }
  if (!accepted) record_.rewind(mark_);
  note(flags | (accepted ? step_flag::accepted : 0U));
  ++step_;
}

double Chain::log_acceptance(const State& now) const {
  const double log_ratio = chain_.beta * (now.log_likelihood - state_.log_likelihood) + move_.log_ratio;
  if (!move_.position) return log_ratio;
  // over the entries that kept their values; none if a tail is redrawn
  const double kept = record_.traces.back().log_ratio;
  if (move_.keep) return log_ratio + kept + log_choice(now) - log_choice(state_);
  return log_ratio + kept +
         std::log(static_cast<double>(state_.candidates.size()) / static_cast<double>(now.candidates.size()));
}

/// The log probability of choosing the changed entry in `state`.
double Chain::log_choice(const State& state) const {
  const auto candidates = static_cast<double>(state.candidates.size());
  if (state.focused.empty()) return -std::log(candidates);
  double probability = (1.0 - chain_.focus_share) / candidates;
  for (const std::size_t position : state.focused) {
    if (position == *move_.position) probability += chain_.focus_share / static_cast<double>(state.focused.size());
  }
  return std::log(probability);
}

double Chain::log_likelihood_of_last() const {
  double sum = 0.0;
  for (std::size_t i = mark_.observes; i < record_.observes.size(); ++i) sum += record_.observes[i].log_prob;
  return sum;
}

Chain::State Chain::state_of_last() {
  State state;
  state.log_likelihood = log_likelihood_of_last();
  for (std::size_t i = mark_.entries; i < record_.entries.size(); ++i) {
    const KnownKey& key = tables_.key_at(record_.entries[i].address);
    if ((key.flags & entry_flag::controlled) == 0) continue;
    state.candidates.push_back(i - mark_.entries);
    if (is_focused(key.name)) state.focused.push_back(i - mark_.entries);
  }
  return state;
}

/// Compares texts, because the number of a name depends on the runs before.
bool Chain::is_focused(std::uint32_t name) {
  if (name >= focused_.size()) focused_.resize(tables_.text_count());
  std::optional<bool>& known = focused_[name];
  if (!known) {
    const std::string& text = tables_.text_at(name);
    known = !text.empty() && (chain_.focus_named || focus_.count(text) != 0);
  }
  return *known;
}

void Chain::go_to_last(State state) {
  state_ = std::move(state);
  rows_.assign(record_.entries.begin() + static_cast<std::ptrdiff_t>(mark_.entries), record_.entries.end());
  row_details_.assign(record_.details.begin() + static_cast<std::ptrdiff_t>(mark_.entries), record_.details.end());
}

void Chain::note(std::uint32_t flags) {
  if (!move_.keep && move_.position) flags |= step_flag::tail;
  record_.steps.push_back({move_.position ? static_cast<std::int32_t>(*move_.position) : -1, flags});
}

}  // namespace ppx::detail
