// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Chains in the front end: at beta = 0 all moves must leave the prior invariant; and the ways in which chains end.
#include <algorithm>
#include <limits>

#include "chain.hpp"
#include "delegated.hpp"

namespace {

using detail::Chain;
using detail::ChainRequest;
namespace step_flag = detail::step_flag;

struct Watched : Model {
  std::vector<double> seen;  // statistics of the last run
};

/// One entry of each kind, which only local steps change.
struct Kinds final : Watched {
  std::string name() const override { return "kinds"; }
  Tensor forward() override {
    const std::vector<double> x = {
        sample(Normal{1.0, 2.0}),       sample(Uniform{-1.0, 3.0}), sample(Categorical{{{0.2, 0.3, 0.5}, {3}}}),
        sample(Poisson{4.0}),           sample(Bernoulli{0.25}),    sample(Beta{2.0, 3.0}),
        sample(Exponential{0.5}),       sample(Gamma{3.0, 2.0}),    sample(LogNormal{0.1, 0.5}),
        sample(Binomial{10.0, 0.3}),    sample(Weibull{2.0, 1.5}),  sample(NegativeBinomial{2.5, 0.5}),
        sample(StudentT{9.0, 1.0, 2.0})};
    seen = x;
    for (const double value : x) seen.push_back(value * value);
    seen.push_back(x[2] == 1.0 ? 1.0 : 0.0);
    return {};
  }
};

/// The number of entries to choose from, and the number of those with a name, depend on one of them.
struct Named final : Watched {
  std::string name() const override { return "named"; }
  Tensor forward() override {
    const double x = sample(Uniform{0.0, 1.0}, true, "x");
    double sum = 0.0;
    for (int i = 0; i < (x < 0.4 ? 3 : 1); ++i) sum += sample(Normal{x, 1.0}, true, x < 0.2 ? "y" : "");
    seen = {x, x < 0.2 ? 1.0 : 0.0, x < 0.4 ? 1.0 : 0.0, sum, sum * x};
    return {};
  }
};

/// Everything depends strongly on earlier draws: means, supports, the number of entries and the names, whether there is
/// a scope, and how often it rejects.
struct Entangled final : Watched {
  std::string name() const override { return "entangled"; }
  Tensor forward() override {
    const double a = sample(Normal{0.0, 1.0}, true, "a");
    const double b = sample(Normal{3.0 * a, 0.5});
    const double width = sample(Gamma{2.0, 1.0}, true, "width");
    const double inside = sample(Uniform{0.0, width < 1.5 ? 1.0 : 2.0});
    const double count = sample(Poisson{1.0 + inside}, true, width < 2.0 ? "count" : "");
    double extra = 0.0;
    for (double i = 0.0; i < std::min(count, 4.0); i += 1.0) extra += sample(Normal{extra, 1.0}, true, "extra");
    const double share = sample(Beta{1.0 + count, 2.0});
    double in_loop = 0.0;
    if (b > 0.0) {
      RejectionScope scope;
      for (;;) {
        in_loop = sample(Exponential{1.0 + share}, true, "loop");
        const double free = sample(Normal{in_loop, 1.0}, false);
        if (in_loop + free < 1.0 + inside) break;
        scope.repeat();
      }
    }
    const double coin = sample(Bernoulli{0.2 + 0.6 * share});
    const double kind = coin == 1.0 ? sample(Categorical{{{0.5, 0.2, 0.3}, {3}}}, true, "kind")
                                    : sample(Categorical{{{0.8, 0.2}, {2}}}, true, "kind");
    const double hits = sample(Binomial{2.0 + kind, 0.3 + 0.4 * share});
    const double late = sample(Weibull{1.0 + hits, 2.0});
    const double last = sample(LogNormal{0.3 * late, 0.4});
    observe(Normal{a, 1.0}, "obs");
    seen = {a,
            a * a,
            (b - 3.0 * a) * (b - 3.0 * a),
            width,
            inside,
            inside * width,
            count,
            count * inside,
            extra,
            extra * extra,
            share,
            share * count,
            in_loop,
            in_loop * share,
            coin,
            coin * share,
            kind,
            kind * coin,
            hits,
            hits * share,
            late,
            late * hits,
            last,
            std::log(last) * late,
            b > 0.0 ? 1.0 : 0.0,
            (std::log(last) - 0.3 * late) * (std::log(last) - 0.3 * late)};
    return last;
  }
};

RunRequest asked(std::uint32_t count, std::uint64_t seed) {
  RunRequest request = with_details();
  request.seeds = {seed};
  request.chain = ChainRequest{count, 0, 0.0, 0.3, 0.2, 0.1, 0.0, {}, true};
  return request;
}

/// Makes the steps of a request; `after` is called with the flags of each step that was run.
template <typename Each>
void take(Session& session, Model& model, const RunRequest& request, const Each& after) {
  session.record.clear();
  Chain chain(session.tables, session.record, request);
  while (chain.next()) {
    detail::Delegate delegate(session.tables, session.record, session.observations, chain.request(), nullptr);
    run_once(delegate, model, chain.seed());
    const std::size_t before = session.record.steps.size();
    chain.take();
    if (session.record.steps.size() > before) after(session.record.steps.back().flags);
  }
}

struct Sum {
  double first = 0.0;
  double square = 0.0;
  void add(double x) {
    first += x;
    square += x * x;
  }
  double mean(double n) const { return first / n; }
  double error(double n) const { return std::sqrt((square / n - mean(n) * mean(n)) / n); }
};

void leaves_the_prior_invariant(Watched& model, const ChainRequest& wanted, std::uint64_t seed) {
  constexpr double draws = 60'000;
  constexpr std::size_t batches = 40;
  constexpr std::uint32_t batch = 6'000;
  Session session;
  std::vector<Sum> prior(32);
  for (double i = 0; i < draws; i += 1.0) {
    session.run(model, with_details(), seed + static_cast<std::uint64_t>(i));
    for (std::size_t k = 0; k < model.seen.size(); ++k) prior[k].add(model.seen[k]);
  }
  std::vector<Sum> chain(32);
  std::vector<double> now = model.seen;
  std::size_t accepted = 0;
  for (std::size_t part = 0; part < batches; ++part) {
    RunRequest request = asked(batch, seed);
    request.chain = wanted;
    request.chain->count = batch;
    request.chain->first = part * batch;
    const std::size_t traces = session.record.traces.size();
    // the rows and the statistics of the last trace
    const std::size_t first = session.record.entries.size() - session.record.traces.at(traces - 1).entries;
    request.rows.assign(session.record.entries.begin() + static_cast<std::ptrdiff_t>(first),
                        session.record.entries.end());
    request.row_details.assign(session.record.details.begin() + static_cast<std::ptrdiff_t>(first),
                               session.record.details.end());
    request.prefix = static_cast<std::uint32_t>(request.rows.size());
    std::vector<double> sums(now.size(), 0.0);
    double counted = 0.0;
    take(session, model, request, [&](std::uint32_t flags) {
      if ((flags & step_flag::accepted) != 0) {
        now = model.seen;
        ++accepted;
      }
      for (std::size_t k = 0; k < now.size(); ++k) sums[k] += now[k];
      counted += 1.0;
    });
    for (std::size_t k = 0; k < now.size(); ++k) chain[k].add(sums[k] / counted);
  }
  CHECK(accepted > batches * batch / 5);
  for (std::size_t k = 0; k < now.size(); ++k) {
    const double n = static_cast<double>(batches);
    const double error = std::hypot(prior[k].error(draws), chain[k].error(n));
    check_close(chain[k].mean(n), prior[k].mean(draws), 4.5 * error, "statistic " + std::to_string(k));
  }
}

void local_steps_leave_the_prior_invariant() {
  Kinds model;
  leaves_the_prior_invariant(model, {0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, {}, true}, 21);
}

void focus_leaves_the_prior_invariant() {
  Named model;
  leaves_the_prior_invariant(model, {0, 0, 0.0, 0.6, 0.1, 0.0, 0.0, {}, true}, 31);
  leaves_the_prior_invariant(model, {0, 0, 0.0, 0.6, 0.1, 0.0, 0.0, {"y", "never met"}, false}, 32);
  leaves_the_prior_invariant(model, {0, 0, 0.0, 0.0, 0.0, 0.7, 0.0, {}, true}, 33);
}

void all_moves_leave_the_prior_invariant() {
  Entangled model;
  leaves_the_prior_invariant(model, {0, 0, 0.0, 0.3, 0.05, 0.02, 0.0, {}, true}, 11);
  leaves_the_prior_invariant(model, {0, 0, 0.0, 0.6, 0.1, 0.02, 0.01, {"a", "extra", "loop"}, false}, 12);
}

/// Its likelihood is NaN for some values.
struct Fragile final : Model {
  std::string name() const override { return "fragile"; }
  Tensor forward() override {
    const double x = sample(Uniform{0.0, 1.0}, true, "x");
    observe(Normal{x, 1.0}, "obs", Tensor(x < 0.9 ? 0.3 : std::numeric_limits<double>::quiet_NaN()));
    return x;
  }
};

void a_likelihood_of_nan_ends_the_chain() {
  Fragile model;
  Session session;
  std::uint64_t seed = 0;
  do {
    session.run(model, with_details(), ++seed);
  } while (session.value(0) >= 0.9);
  RunRequest request = asked(1000, 5);
  request.rows = session.record.entries;
  request.row_details = session.record.details;
  request.prefix = 1;
  take(session, model, request, [](std::uint32_t) {});
  const auto& steps = session.record.steps;
  CHECK(!steps.empty() && steps.size() < 1000);
  CHECK_EQUAL(steps.back().flags & step_flag::broken, +step_flag::broken);
  std::size_t led = 1;
  for (const auto& step : steps) led += (step.flags & step_flag::accepted) != 0 ? 1U : 0U;
  CHECK_EQUAL(session.record.traces.size(), led);
  CHECK(session.value(session.record.entries.size() - 1) >= 0.9);
}

/// Keeps state between runs, so that its statements change.
struct Forgetful final : Model {
  int runs = 0;
  std::string name() const override { return "forgetful"; }
  Tensor forward() override {
    const double x = sample(Normal{0.0, ++runs % 7 == 0 ? 2.0 : 1.0}, true, "x");
    sample(Normal{x, 1.0}, true, "y");
    return x;
  }
};

void a_model_that_cannot_be_replayed_ends_the_chain() {
  Forgetful model;
  Session session;
  session.run(model, with_details(), 3);
  RunRequest request = asked(100, 5);
  request.rows = session.record.entries;
  request.row_details = session.record.details;
  request.prefix = 2;
  take(session, model, request, [](std::uint32_t) {});
  CHECK(session.record.steps.size() < 100);
  CHECK((session.record.steps.back().flags & step_flag::broken) != 0);
  CHECK((session.record.traces.back().flags & detail::trace_flag::mismatch) != 0);
  // not even the initial trace
  model.runs = 6;
  take(session, model, request, [](std::uint32_t) {});
  CHECK(session.record.steps.empty());
  CHECK_EQUAL(session.record.traces.size(), 1U);
  CHECK((session.record.traces.back().flags & detail::trace_flag::mismatch) != 0);
}

struct Fixed final : Model {
  std::string name() const override { return "fixed"; }
  Tensor forward() override { return sample(Normal{0.0, 1.0}, false); }
};

void a_trace_without_candidates_does_not_change() {
  Fixed model;
  Session session;
  session.run(model, with_details(), 3);
  RunRequest request = asked(50, 5);
  request.rows = session.record.entries;
  request.row_details = session.record.details;
  request.prefix = 1;
  take(session, model, request, [](std::uint32_t) {});
  CHECK_EQUAL(session.record.steps.size(), 50U);
  CHECK(session.record.traces.empty());
  for (const auto& step : session.record.steps) CHECK_EQUAL(step.flags, +step_flag::nothing);
}

}  // namespace

int main() {
  return run_tests({
      {"local steps leave the prior invariant", local_steps_leave_the_prior_invariant},
      {"focus leaves the prior invariant", focus_leaves_the_prior_invariant},
      {"all moves leave the prior invariant", all_moves_leave_the_prior_invariant},
      {"a likelihood of NaN ends the chain", a_likelihood_of_nan_ends_the_chain},
      {"a model that cannot be replayed ends the chain", a_model_that_cannot_be_replayed_ends_the_chain},
      {"a trace without candidates does not change", a_trace_without_candidates_does_not_change},
  });
}
