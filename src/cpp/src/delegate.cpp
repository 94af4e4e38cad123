// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include "delegate.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "draw.hpp"
#include "log_prob.hpp"
#include "parameters.hpp"

namespace ppx::detail {
namespace {

std::uint64_t next_run() {
  thread_local std::uint64_t count = 0;
  return ++count;
}

std::size_t product(const std::vector<std::int32_t>& shape) {
  std::size_t size = 1;
  for (const std::int32_t extent : shape) size *= static_cast<std::size_t>(extent);
  return size;
}

/// Peers send scalars with shape () or (1,).
bool fits(const Tensor& value, const std::vector<std::int32_t>& shape) {
  return value.data.size() == product(shape) && (value.data.size() == 1 || value.shape == shape);
}

}  // namespace

Delegate::Delegate(Tables& tables, Record& record, const Observations& observations, const RunRequest& request,
                   Asker* asker)
    : tables_(tables), record_(record), observations_(observations), request_(request), asker_(asker) {
  for (std::size_t i = 0; i < request.prefix; ++i) rows_open_ = std::max(rows_open_, request.row_details[i].scope);
  if (request.proposed) return;
  if (request.rows.size() > request.prefix) row_of_place_.assign(tables.place_count(), -1);
  for (std::size_t i = request.prefix; i < request.rows.size(); ++i) {
    const KnownKey& key = tables.key_at(request.rows[i].address);
    if ((key.flags & entry_flag::controlled) == 0) continue;
    const std::uint32_t scope = request.row_details[i].scope;
    if (scope == 0 || scope <= rows_open_) row_of_place_[key.place] = static_cast<std::int32_t>(i);
  }
}

void Delegate::begin(std::uint64_t seed) {
  generator_ = Generator(seed);
  observation_generator_ = Generator(~seed);  // a separate one, as in a local run
  trace_ = TraceRecord{seed, 0, 0, 0, 0, -1, 0, 0, 0.0, 0.0};
  log_prior_at_scope_ = log_ratio_at_scope_ = 0.0;
  first_entry_ = scope_start_ = record_.entries.size();
  first_observe_ = record_.observes.size();
  first_tag_ = record_.tags.size();
  next_row_ = 0;
  replayed_ = open_ = scope_ = repetition_ = handed_scope_ = 0;
  rest_handed_over_ = over_ = false;
  counted_.clear();
  tables_.begin_run(next_run());
}

void Delegate::end(const Tensor& result) {
  if (!over_ && !result.data.empty()) trace_.result = static_cast<std::int32_t>(record_.add(result));
  // A run may end before the prefix is complete.
  if (!over_ && replayed_ < request_.prefix) trace_.flags |= trace_flag::mismatch;
  const bool followed = (trace_.flags & (trace_flag::diverged | trace_flag::repeated)) == 0;
  if (request_.proposed && followed && next_row_ < request_.rows.size()) trace_.flags |= trace_flag::diverged;
  if ((trace_.flags & trace_flag::lost) != 0) {  // its content is not returned
    record_.entries.resize(first_entry_);
    if (request_.details) record_.details.resize(first_entry_);
    record_.observes.resize(first_observe_);
    record_.tags.resize(first_tag_);
  }
  trace_.entries = static_cast<std::uint32_t>(record_.entries.size() - first_entry_);
  trace_.observes = static_cast<std::uint32_t>(record_.observes.size() - first_observe_);
  trace_.tags = static_cast<std::uint32_t>(record_.tags.size() - first_tag_);
  record_.traces.push_back(trace_);
}

double Delegate::sample(const Event& event, const Site& site) {
  require_running();
  follow_scope(event);
  Tables::SiteEntry& known = tables_.entry(site);
  const std::uint32_t base_index = tables_.base(known, site, *event.distribution);
  Base& base = tables_.base_at(base_index);
  const std::uint32_t instance = tables_.next_instance(base);
  if (event.scope != 0) counted_.push_back(base_index);
  const KnownPrior& prior = tables_.prior(known, *event.distribution);
  const std::uint32_t flags = (event.control ? entry_flag::controlled : 0) | (event.replace ? entry_flag::replaced : 0);
  const KnownKey key = tables_.key(base, instance, tables_.name(known, event.name), flags);
  const Choice choice = choose(event, key, instance, prior);
  record(event, prior, key.number, choice);
  return choice.value;
}

void Delegate::record(const Event& event, const KnownPrior& prior, std::uint32_t address, const Choice& choice) {
  const bool flat = prior.is_flat && choice.value >= prior.parameters[0] && choice.value <= prior.parameters[1];
  const double log_density = flat ? prior.flat_log_density : log_prob(*event.distribution, choice.value);
  if (choice.row >= 0 && !request_.proposed) compare(choice.row, log_density);
  ++trace_.draws;
  trace_.log_prior += log_density;
  record_.entries.push_back({choice.value, address, prior.number});
  if (!request_.details) return;
  record_.details.push_back({log_density, prior.support, event.scope, event.repetition, choice.row, 0});
}

// The same value under the same prior must have the same density, bit for bit.
void Delegate::compare(std::int32_t row, double log_density) {
  const double recorded = request_.row_details[static_cast<std::size_t>(row)].log_prob;
  if (static_cast<std::uint32_t>(row) >= request_.prefix) {
    trace_.log_ratio += log_density - recorded;
  } else if (recorded != log_density && !std::isnan(recorded)) {
    end_early(trace_flag::mismatch);
  }
}

void Delegate::follow_scope(const Event& event) {
  if (event.scope == scope_ && event.repetition == repetition_) return;
  if (event.scope == scope_) {  // the repetition before this one was rejected
    if (request_.rejected) {
      for (std::size_t i = scope_start_; i < record_.details.size(); ++i) {
        record_.details[i].flags |= entry_flag::rejected;
      }
    } else {
      record_.entries.resize(scope_start_);
      if (request_.details) record_.details.resize(scope_start_);
    }
    trace_.log_prior = log_prior_at_scope_;
    trace_.log_ratio = log_ratio_at_scope_;
    for (const std::uint32_t base : counted_) --tables_.base_at(base).count;
  }
  counted_.clear();
  // A scope whose first draw is not controlled, or not in its first repetition, is drawn here as a whole.
  if (event.scope != scope_ && event.scope != 0 && (!event.control || event.repetition != 0)) {
    handed_scope_ = event.scope;
  }
  scope_ = event.scope;
  repetition_ = event.repetition;
  scope_start_ = record_.entries.size();
  log_prior_at_scope_ = trace_.log_prior;
  log_ratio_at_scope_ = trace_.log_ratio;
}

Delegate::Choice Delegate::choose(const Event& event, const KnownKey& key, std::uint32_t instance,
                                  const KnownPrior& prior) {
  if (request_.proposed) {
    const std::int32_t row = proposed_row(event, key, prior.number);
    if (row >= 0) return {request_.rows[static_cast<std::size_t>(row)].value, row};
    return {draw_scalar(*event.distribution, generator_), -1};
  }
  if (replayed_ < request_.prefix) return replay(event, key.place);
  if (is_open(event.scope) && event.repetition != 0) end_early(trace_flag::lost);
  if (const std::int32_t row = find_row(event, key.place, prior.support); row >= 0) {
    return {request_.rows[static_cast<std::size_t>(row)].value, row};
  }
  if (asker_ != nullptr && event.control) return ask(event, instance);
  return {draw_scalar(*event.distribution, generator_), -1};
}

std::int32_t Delegate::proposed_row(const Event& event, const KnownKey& key, std::uint32_t prior) {
  if (!event.control || (event.scope != 0 && event.scope == handed_scope_)) return -1;
  constexpr std::uint32_t off = trace_flag::diverged | trace_flag::repeated;
  if ((trace_.flags & off) != 0) return -1;
  if (!is_next_row(event, key.number, prior)) {
    trace_.flags |= event.repetition != 0 ? trace_flag::repeated : trace_flag::diverged;
    return -1;
  }
  const EntryRecord& row = request_.rows[next_row_];
  const bool is_first = event.scope != 0 && record_.entries.size() == scope_start_;
  const bool is_given = !std::isnan(row.value);
  if (!is_given && is_first) handed_scope_ = event.scope;
  const auto number = static_cast<std::int32_t>(next_row_++);
  return is_given ? number : -1;
}

bool Delegate::is_next_row(const Event& event, std::uint32_t address, std::uint32_t prior) const {
  if (next_row_ >= request_.rows.size() || event.repetition != 0) return false;
  const EntryRecord& row = request_.rows[next_row_];
  // the numbers of priors that are not kept differ from message to message
  return row.address == address && row.distribution == prior && prior < KnownPrior::own &&
         request_.row_details[next_row_].scope == event.scope;
}

Delegate::Choice Delegate::replay(const Event& event, std::uint32_t place) {
  const EntryRecord& row = request_.rows[replayed_];
  if (tables_.key_at(row.address).place != place || event.repetition != 0) end_early(trace_flag::mismatch);
  open_ = std::max(open_, event.scope);
  return {row.value, static_cast<std::int32_t>(replayed_++)};
}

std::int32_t Delegate::find_row(const Event& event, std::uint32_t place, std::uint64_t support) const {
  if (!event.control || place >= row_of_place_.size()) return -1;
  if (event.scope != 0 && !is_open(event.scope)) return -1;
  const std::int32_t found = row_of_place_[place];
  if (found < 0) return -1;
  const DetailRecord& row = request_.row_details[static_cast<std::size_t>(found)];
  const bool same_situation = (row.scope == 0) == (event.scope == 0);
  return same_situation && row.support == support ? found : -1;
}

Delegate::Choice Delegate::ask(const Event& event, std::uint32_t instance) {
  const bool in_handed_scope = event.scope != 0 && event.scope == handed_scope_;
  if (!rest_handed_over_ && !in_handed_scope) {
    const Answer answer = asker_->ask(event, instance);
    if (answer.hand_over == HandOver::rest) rest_handed_over_ = true;
    if (answer.hand_over == HandOver::scope) handed_scope_ = event.scope;
    if (answer.value) return {*answer.value, -1};
  }
  return {draw_scalar(*event.distribution, generator_), -1};
}

void Delegate::observe(const Event& event, const Site& site) {
  require_running();
  const Distribution& distribution = *event.distribution;
  ObserveRecord observed{0.0,
                         tables_.text(event.name),
                         tables_.text(site.address),
                         static_cast<std::uint32_t>(distribution.index()) + 1,
                         0,
                         static_cast<std::uint32_t>(record_.arrays.size()),
                         0};
  const auto shape = draw_shape(distribution);
  const Tensor* value = nullptr;
  if (request_.score) {
    const auto found = observations_.find(event.name);
    value = found != observations_.end() ? &found->second : event.value;
  }
  if (value != nullptr && !fits(*value, shape)) {
    observed.flags |= observe_flag::misfit;
    observed.log_prob = std::numeric_limits<double>::quiet_NaN();
  } else if (value != nullptr) {
    observed.flags |= observe_flag::scored;
    observed.log_prob = log_prob(distribution, *value);
    if (value == event.value) {
      observed.flags |= observe_flag::value;
      record_.add(*value);
    }
  } else if (product(shape) < request_.draw_below) {
    observed.flags |= observe_flag::value;
    record_.add(draw_tensor(distribution, observation_generator_));
  }
  if (request_.parameters || (observed.flags & observe_flag::misfit) != 0) {
    observed.flags |= observe_flag::parameters;
    for (const Parameter& parameter : parameters(distribution)) record_.add(*parameter.value);
  }
  record_.observes.push_back(observed);
}

void Delegate::tag(const Event& event, const Site& site) {
  require_running();
  const std::uint32_t name = tables_.text(event.name.empty() ? std::string_view(site.address) : event.name);
  record_.tags.push_back({name, record_.add(*event.value)});
}

void Delegate::end_early(std::uint32_t flag) {
  over_ = true;
  trace_.flags |= flag;
  throw AbandonRun{};
}

// A simulator that caught AbandonRun continues: throw it again.
void Delegate::require_running() const {
  if (over_) throw AbandonRun{};
}

}  // namespace ppx::detail
