// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Delegated runs without a connection: a model, and a session with its runs.
#ifndef PPX_TESTS_DELEGATED_HPP
#define PPX_TESTS_DELEGATED_HPP

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "check.hpp"
#include "delegate.hpp"
#include "log_prob.hpp"

using namespace ppx;
using detail::DetailRecord;
using detail::EntryRecord;
using detail::log_prob;
using detail::Record;
using detail::RunRequest;
using detail::Tables;
using detail::TraceRecord;

inline void check_close(double found, double expected, double tolerance, const std::string& what) {
  if (!(std::abs(found - expected) <= tolerance)) {
    check_failed(__FILE__, __LINE__,
                 what + ": expected " + std::to_string(expected) + ", found " + std::to_string(found));
  }
}

/// low ~ U(0, 1), high ~ U(0, 1) or U(0, 2), loop { a ~ N(low, 1), b ~ N(0, 1) uncontrolled } until `accepts(a)`,
/// last ~ N(high, 1).
struct TestModel final : Model {
  std::function<bool(double)> accepts = [](double) { return true; };
  std::string name() const override { return "test"; }
  Tensor forward() override {
    const double low = sample(Uniform{0.0, 1.0}, true, "low");
    const double high = sample(Uniform{0.0, low < 0.5 ? 1.0 : 2.0}, true, "high");
    {
      RejectionScope scope;
      for (;;) {
        const double a = sample(Normal{low, 1.0}, true, "a");
        sample(Normal{0.0, 1.0}, false, "b");
        if (accepts(a)) break;
        scope.repeat();
      }
    }
    const double last = sample(Normal{high, 1.0}, true, "last");
    observe(Normal{last, 1.0}, "obs");
    tag("last", last);
    return last;
  }
};

/// Runs a model once with a delegate.
inline void run_once(detail::Delegate& delegate, Model& model, std::uint64_t seed) {
  delegate.begin(seed);
  Tensor result;
  try {
    detail::Run run(delegate);
    result = run.forward(model);
  } catch (const detail::AbandonRun&) {
    CHECK(delegate.over());
  }
  delegate.end(result);
}

/// A session of delegated runs without a connection.
struct Session {
  Tables tables;
  detail::Observations observations;
  Record record;

  /// Whether the run was ended early.
  bool run(Model& model, const RunRequest& request, std::uint64_t seed, detail::Asker* asker = nullptr) {
    record.clear();
    detail::Delegate delegate(tables, record, observations, request, asker);
    run_once(delegate, model, seed);
    CHECK_EQUAL(record.traces.size(), 1U);
    CHECK_EQUAL(record.traces[0].entries, record.entries.size());
    return delegate.over();
  }
  const TraceRecord& trace() const { return record.traces.at(0); }
  std::vector<double> values() const {
    std::vector<double> found;
    for (const EntryRecord& entry : record.entries) found.push_back(entry.value);
    return found;
  }
  std::string name_of(const EntryRecord& entry) const {
    const detail::Tables::News all = tables.news();  // nothing was sent before
    return all.texts[tables.key_at(entry.address).name];
  }
  double value(std::size_t i) const { return record.entries.at(i).value; }
  RunRequest replay(std::uint32_t prefix) const {
    RunRequest request;
    request.details = true;
    request.rows = record.entries;
    request.row_details = record.details;
    request.prefix = prefix;
    return request;
  }
};

inline RunRequest with_details() {
  RunRequest request;
  request.details = true;
  return request;
}

#endif
