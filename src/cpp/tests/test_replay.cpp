// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Replayed runs: reused values, new draws, lost runs, and mismatches.
#include <limits>
#include <memory>

#include "delegated.hpp"

namespace {

void the_prefix_is_replayed_by_position() {
  TestModel model;
  Session session;
  session.run(model, with_details(), 1);
  const std::vector<double> before = session.values();
  for (std::uint32_t prefix = 0; prefix <= 5; ++prefix) {
    RunRequest request = session.replay(prefix);
    request.rows.resize(prefix);
    request.row_details.resize(prefix);
    CHECK(!session.run(model, request, 2));
    const std::vector<double> found = session.values();
    for (std::uint32_t i = 0; i < 5; ++i) {
      CHECK_EQUAL(found[i] == before[i], i < prefix);
      CHECK_EQUAL(session.record.details[i].row, i < prefix ? static_cast<std::int32_t>(i) : -1);
    }
    CHECK_EQUAL(session.trace().log_ratio, 0.0);
    session.run(model, with_details(), 1);
    CHECK(session.values() == before);
  }
}

void values_are_reused_if_possible() {
  TestModel model;
  Session session;
  std::uint64_t seed = 0;
  const auto start = [&](bool below) {
    do {
      session.run(model, with_details(), ++seed);
    } while ((session.value(0) < 0.5) != below);
  };
  // the first entry changes: the scope begins later and is drawn, the uncontrolled entry too
  start(true);
  const std::vector<double> before = session.values();
  RunRequest request = session.replay(1);
  request.rows[0].value = 0.25;
  request.row_details[0].log_prob = std::numeric_limits<double>::quiet_NaN();
  CHECK(!session.run(model, request, 99));
  CHECK_EQUAL(session.value(0), 0.25);
  CHECK_EQUAL(session.value(1), before[1]);
  CHECK(session.value(2) != before[2] && session.value(3) != before[3]);
  CHECK_EQUAL(session.value(4), before[4]);
  CHECK_EQUAL(session.record.details[4].row, 4);
  CHECK_EQUAL(session.record.details[2].row, -1);
  CHECK_EQUAL(session.trace().log_ratio, 0.0);  // no reused value has another prior
  // the same, but the support of the second entry changes, and with it the mean of the last
  request.rows[0].value = 0.75;
  CHECK(!session.run(model, request, 99));
  CHECK_EQUAL(session.record.details[1].row, -1);
  CHECK_EQUAL(session.value(4), before[4]);
  const double high = session.value(1);
  check_close(session.trace().log_ratio,
              log_prob(Normal{high, 1.0}, before[4]) - log_prob(Normal{before[1], 1.0}, before[4]), 1e-12, "log ratio");
  // an entry of the scope changes: the scope is open, its other controlled entries are kept
  start(true);
  const std::vector<double> second = session.values();
  request = session.replay(3);
  request.rows[2].value += 0.5;
  request.row_details[2].log_prob = std::numeric_limits<double>::quiet_NaN();
  CHECK(!session.run(model, request, 99));
  CHECK(session.value(3) != second[3]);  // not controlled
  CHECK_EQUAL(session.value(4), second[4]);
}

/// Two executions of a loop that makes its second draw only for some values of the first.
struct Conditional final : Model {
  std::string name() const override { return "conditional"; }
  Tensor forward() override {
    for (int i = 0; i < 2; ++i) {
      const RejectionScope scope;
      if (sample(Uniform{0.0, 1.0}, true, "first") > 0.5) sample(Uniform{0.0, 1.0}, true, "second");
    }
    if (sample(Uniform{0.0, 1.0}, true, "last") > 0.5) sample(Uniform{0.0, 1.0}, true, "beyond");
    return {};
  }
};

void no_value_is_reused_between_scopes() {
  Conditional model;
  Session session;
  std::uint64_t seed = 0;
  const auto drawn = [&](const std::vector<std::string>& names) {
    std::vector<std::string> found;
    do {
      session.run(model, with_details(), ++seed);
      found.clear();
      for (const EntryRecord& entry : session.record.entries) found.push_back(session.name_of(entry));
    } while (found != names);
  };
  // the second draw moves from the first scope to the second: same address, another scope
  drawn({"first", "second", "first", "last"});
  RunRequest request = session.replay(1);
  request.rows[0].value = 0.25;
  request.row_details[0].log_prob = std::numeric_limits<double>::quiet_NaN();
  int made = 0;
  for (std::uint64_t other = 0; other < 40; ++other) {
    CHECK(!session.run(model, request, other));
    CHECK_EQUAL(session.record.details[0].row, 0);
    for (std::size_t i = 1; i < session.record.entries.size(); ++i) {
      const bool last = session.name_of(session.record.entries[i]) == "last";
      CHECK_EQUAL(session.record.details[i].row, last ? 3 : -1);
      made += session.name_of(session.record.entries[i]) == "second" ? 1 : 0;
    }
  }
  CHECK(made > 5);
  // and in the other direction
  drawn({"first", "first", "second", "last"});
  request = session.replay(1);
  request.rows[0].value = 0.75;
  request.row_details[0].log_prob = std::numeric_limits<double>::quiet_NaN();
  CHECK(!session.run(model, request, 1));
  CHECK_EQUAL(session.name_of(session.record.entries[1]), "second");
  CHECK_EQUAL(session.record.details[1].row, -1);
}

/// The second draw belongs to the scope of the first, or is made after it.
struct Leaving final : Model {
  std::string name() const override { return "leaving"; }
  Tensor forward() override {
    auto scope = std::make_unique<RejectionScope>();
    if (sample(Uniform{0.0, 1.0}, true, "first") > 0.5) scope.reset();
    sample(Uniform{0.0, 1.0}, true, "second");
    return {};
  }
};

void no_value_is_reused_into_or_out_of_a_scope() {
  Leaving model;
  Session session;
  std::uint64_t seed = 0;
  for (const bool leaves : {false, true}) {
    do {
      session.run(model, with_details(), ++seed);
    } while ((session.value(0) > 0.5) != leaves);
    CHECK_EQUAL(session.record.details[1].scope, leaves ? 0U : 1U);
    RunRequest request = session.replay(1);
    for (const double first : {0.25, 0.75}) {
      request.rows[0].value = first;
      request.row_details[0].log_prob = std::numeric_limits<double>::quiet_NaN();
      CHECK(!session.run(model, request, 1));
      CHECK_EQUAL(session.record.details[1].row, (first > 0.5) == leaves ? 1 : -1);
    }
  }
}

/// The first draw decides whether the second is controlled.
struct Wilful final : Model {
  std::string name() const override { return "wilful"; }
  Tensor forward() override {
    const double first = sample(Uniform{0.0, 1.0}, true, "first");
    sample(Uniform{0.0, 1.0}, first > 0.5, "second");
    return {};
  }
};

void uncontrolled_values_are_not_reused() {
  Wilful model;
  Session session;
  std::uint64_t seed = 0;
  for (const bool controlled : {false, true}) {
    do {
      session.run(model, with_details(), ++seed);
    } while ((session.value(0) > 0.5) != controlled);
    RunRequest request = session.replay(1);
    for (const double first : {0.25, 0.75}) {
      request.rows[0].value = first;
      request.row_details[0].log_prob = std::numeric_limits<double>::quiet_NaN();
      CHECK(!session.run(model, request, 1));
      CHECK_EQUAL(session.record.details[1].row, controlled && first > 0.5 ? 1 : -1);
    }
  }
}

void an_open_scope_that_rejects_loses_the_run() {
  TestModel model;
  Session session;
  session.run(model, with_details(), 1);
  RunRequest request = session.replay(3);
  request.rows[2].value = 7.0;
  request.row_details[2].log_prob = std::numeric_limits<double>::quiet_NaN();
  model.accepts = [](double a) { return a != 7.0; };
  CHECK(session.run(model, request, 1));
  CHECK_EQUAL(session.trace().flags, detail::trace_flag::lost);
  CHECK(session.record.entries.empty() && session.record.details.empty());
  CHECK_EQUAL(session.trace().result, -1);
  // the tables are still valid
  model.accepts = [](double) { return true; };
  session.run(model, with_details(), 1);
  CHECK_EQUAL(session.record.entries.size(), 5U);
  CHECK_EQUAL(session.tables.address_count(), 5U);
  // a scope that began after the change may repeat
  request = session.replay(1);
  int repetitions = 0;
  model.accepts = [&](double) { return ++repetitions % 3 == 0; };
  CHECK(!session.run(model, request, 1));
  CHECK_EQUAL(session.trace().flags, 0U);
  CHECK_EQUAL(session.trace().draws, 9U);
}

void a_run_that_differs_is_a_mismatch() {
  TestModel model;
  Session session;
  const auto flags = [&](const std::function<void(RunRequest&)>& change, std::uint32_t prefix) {
    session.run(model, with_details(), 1);
    RunRequest request = session.replay(prefix);
    change(request);
    session.run(model, request, 1);
    return session.trace().flags;
  };
  CHECK_EQUAL(flags([](RunRequest&) {}, 5), 0U);
  const auto other_value = [](RunRequest& request) { request.rows[2].value += 1.0; };
  CHECK_EQUAL(flags(other_value, 5), detail::trace_flag::mismatch);  // of another density
  const auto other_density = [](RunRequest& request) {
    request.row_details[1].log_prob = std::nextafter(request.row_details[1].log_prob, 10.0);
  };
  CHECK_EQUAL(flags(other_density, 2), detail::trace_flag::mismatch);
  CHECK_EQUAL(flags(other_density, 1), 0U);
  const auto other_place = [](RunRequest& request) { std::swap(request.rows[0], request.rows[4]); };
  CHECK_EQUAL(flags(other_place, 1), detail::trace_flag::mismatch);
  const auto longer = [](RunRequest& request) {
    request.rows.push_back(request.rows[4]);
    request.row_details.push_back(request.row_details[4]);
    request.prefix = 6;
  };
  CHECK_EQUAL(flags(longer, 5), detail::trace_flag::mismatch);
  int repetitions = 0;
  model.accepts = [&](double) { return ++repetitions % 2 == 0; };
  // replayed as a first repetition, which the model rejects
  CHECK_EQUAL(flags([](RunRequest&) {}, 5), detail::trace_flag::mismatch);
}

}  // namespace

int main() {
  return run_tests({
      {"the prefix is replayed by position", the_prefix_is_replayed_by_position},
      {"values are reused if possible", values_are_reused_if_possible},
      {"no value is reused between scopes", no_value_is_reused_between_scopes},
      {"no value is reused into or out of a scope", no_value_is_reused_into_or_out_of_a_scope},
      {"uncontrolled values are not reused", uncontrolled_values_are_not_reused},
      {"an open scope that rejects loses the run", an_open_scope_that_rejects_loses_the_run},
      {"a run that differs is a mismatch", a_run_that_differs_is_a_mismatch},
  });
}
