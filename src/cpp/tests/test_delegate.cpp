// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Runs carried out by the front end: prior, assisted, with observations, and several per message.
#include <csignal>
#include <future>
#include <memory>
#include <set>

#include "client.hpp"
#include "delegated.hpp"
#include "wire.hpp"

namespace {

using detail::Answer;
using detail::HandOver;

void prior_runs_are_local_runs() {
  TestModel model;
  model.accepts = [](double a) { return a > 0.5; };
  Session session;
  RunRequest everything = with_details();
  everything.rejected = true;
  bool any_rejected = false;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    std::vector<double> drawn;
    std::vector<std::uint32_t> repetitions;
    run_local(model, seed, [&](const Event& event) {
      if (event.kind != Event::Kind::sample) return;
      drawn.push_back(event.value->data[0]);
      repetitions.push_back(event.repetition);
    });
    CHECK(!session.run(model, everything, seed));
    CHECK(session.values() == drawn);
    CHECK_EQUAL(session.trace().draws, drawn.size());
    const std::uint32_t last = repetitions[repetitions.size() - 2];
    double log_prior = 0.0;
    for (std::size_t i = 0; i < drawn.size(); ++i) {
      const DetailRecord& entry = session.record.details[i];
      CHECK_EQUAL(entry.repetition, repetitions[i]);
      const bool rejected = entry.scope != 0 && entry.repetition != last;
      CHECK_EQUAL(entry.flags, rejected ? detail::entry_flag::rejected : 0U);
      CHECK_EQUAL(entry.row, -1);
      if (!rejected) log_prior += entry.log_prob;
      any_rejected = any_rejected || rejected;
    }
    check_close(session.trace().log_prior, log_prior, 1e-12, "log prior");
    std::set<std::uint32_t> places;
    CHECK(!session.run(model, with_details(), seed));
    CHECK_EQUAL(session.record.entries.size(), 5U);  // without those of rejected repetitions
    for (const EntryRecord& entry : session.record.entries) {
      const std::uint32_t place = session.tables.key_at(entry.address).place;
      CHECK(place < 5);  // instances do not count rejected repetitions
      places.insert(place);
    }
    CHECK_EQUAL(places.size(), 5U);
  }
  CHECK(any_rejected);
}

struct TestAsker final : detail::Asker {
  std::vector<std::pair<std::string, std::uint32_t>> asked;
  std::function<Answer(const Event&)> answer;
  Answer ask(const Event& event, std::uint32_t instance) override {
    asked.emplace_back(event.name, instance);
    return answer(event);
  }
};

void assisted_runs_ask_for_controlled_draws() {
  TestModel model;
  model.accepts = [](double a) { return a > 0.5; };
  Session session;
  TestAsker asker;
  std::uint64_t seed = 1;
  do {
    session.run(model, with_details(), ++seed);
  } while (session.trace().draws < 9);
  const std::vector<double> prior = session.values();

  asker.answer = [](const Event& event) {
    return Answer{event.name == "a" ? 0.5 + event.repetition : 0.25, HandOver::none};
  };
  CHECK(!session.run(model, with_details(), seed, &asker));
  CHECK((asker.asked ==
         std::vector<std::pair<std::string, std::uint32_t>>{{"low", 1}, {"high", 1}, {"a", 1}, {"a", 1}, {"last", 1}}));
  CHECK_EQUAL(session.value(2), 1.5);
  CHECK_EQUAL(session.value(4), 0.25);

  asker.asked.clear();
  asker.answer = [](const Event&) { return Answer{std::nullopt, HandOver::rest}; };
  CHECK(!session.run(model, with_details(), seed, &asker));
  CHECK_EQUAL(asker.asked.size(), 1U);
  CHECK(session.values() == prior);

  asker.asked.clear();
  asker.answer = [](const Event& event) {
    return event.name == "a" ? Answer{std::nullopt, HandOver::scope} : Answer{0.25, HandOver::none};
  };
  CHECK(!session.run(model, with_details(), seed, &asker));
  CHECK_EQUAL(asker.asked.size(), 4U);  // `a` once, independent of its repetitions
  CHECK(session.value(2) > 0.5);
  CHECK_EQUAL(session.value(4), 0.25);
}

/// Values of the controlled entries low, high, a and last; NaN leaves an entry to the generator.
RunRequest proposed(const Session& session, const std::vector<double>& values) {
  RunRequest request = session.replay(5);
  request.prefix = 0;
  request.proposed = true;
  request.rows.erase(request.rows.begin() + 3);  // `b` is not controlled
  request.row_details.erase(request.row_details.begin() + 3);
  for (std::size_t i = 0; i < request.rows.size(); ++i) request.rows[i].value = values[i];
  return request;
}

std::vector<std::int32_t> rows_of(const Session& session) {
  std::vector<std::int32_t> rows;
  for (const DetailRecord& detail : session.record.details) rows.push_back(detail.row);
  return rows;
}

void proposed_rows_are_taken_while_they_fit() {
  constexpr double from_prior = std::numeric_limits<double>::quiet_NaN();
  TestModel model;
  Session session;
  TestAsker asker;
  asker.answer = [](const Event& event) {
    return Answer{event.name == "low"    ? 0.25
                  : event.name == "high" ? 0.75
                  : event.name == "a"    ? 0.9
                                         : 0.1,
                  HandOver::none};
  };
  CHECK(!session.run(model, with_details(), 7, &asker));
  const std::vector<double> assisted = session.values();
  const RunRequest all = proposed(session, {0.25, 0.75, 0.9, 0.1});
  const RunRequest other_prior = proposed(session, {0.75, 0.75, 0.9, 0.1});
  const RunRequest own_loop = proposed(session, {0.25, 0.75, from_prior, 0.1});
  const RunRequest one_from_prior = proposed(session, {0.25, from_prior, 0.9, 0.1});

  // the same as the assisted run with these answers
  CHECK(!session.run(model, all, 7));
  CHECK(session.values() == assisted);
  CHECK((rows_of(session) == std::vector<std::int32_t>{0, 1, 2, -1, 3}));
  CHECK_EQUAL(session.trace().flags, 0U);

  // with low = 0.75 the prior of `high` is another one: it and all later entries are drawn
  CHECK(!session.run(model, other_prior, 7));
  CHECK((rows_of(session) == std::vector<std::int32_t>{0, -1, -1, -1, -1}));
  CHECK_EQUAL(session.trace().flags, detail::trace_flag::diverged);

  // so are those of a run that ends before its rows, or goes on after them
  RunRequest too_many = all;
  too_many.rows.push_back(all.rows.back());
  too_many.row_details.push_back(all.row_details.back());
  RunRequest too_few = all;
  too_few.rows.pop_back();
  too_few.row_details.pop_back();
  for (const RunRequest& request : {too_many, too_few}) {
    CHECK(!session.run(model, request, 7));
    CHECK_EQUAL(session.trace().flags, detail::trace_flag::diverged);
  }

  // a second repetition of a proposed scope is drawn, and all that follows
  model.accepts = [](double a) { return a > 1.0; };
  CHECK(!session.run(model, all, 7));
  CHECK((rows_of(session) == std::vector<std::int32_t>{0, 1, -1, -1, -1}));
  CHECK(session.record.details[2].repetition > 0);
  CHECK_EQUAL(session.trace().flags, detail::trace_flag::repeated);
  // unless its first repetition was not the proposed one
  RunRequest other_scope = all;
  other_scope.rows[2].address = all.rows[3].address;
  bool repeated = false;
  for (std::uint64_t i = 0; i < 20; ++i) {
    CHECK(!session.run(model, other_scope, i));
    CHECK_EQUAL(session.trace().flags, detail::trace_flag::diverged);
    repeated = repeated || session.record.details[2].repetition > 0;
  }
  CHECK(repeated);

  // the loop draws the whole scope, in every repetition; then the rows are taken again
  repeated = false;
  for (std::uint64_t i = 0; i < 50; ++i) {
    CHECK(!session.run(model, own_loop, i));
    CHECK((rows_of(session) == std::vector<std::int32_t>{0, 1, -1, -1, 3}));
    CHECK(session.value(2) > 1.0);
    CHECK_EQUAL(session.trace().flags, 0U);
    repeated = repeated || session.record.details[2].repetition > 0;
  }
  CHECK(repeated);

  model.accepts = [](double) { return true; };
  for (std::uint64_t i = 0; i < 50; ++i) {
    CHECK(!session.run(model, one_from_prior, i));
    // the prior of `last` depends on `high`
    CHECK((rows_of(session) == std::vector<std::int32_t>{0, -1, 2, -1, -1}));
    CHECK(session.value(1) != 0.75);
  }
}

void observations_are_scored_drawn_or_misfit() {
  TestModel model;
  Session session;
  RunRequest request = with_details();
  const auto observed = [&] {
    session.run(model, request, 3);
    CHECK_EQUAL(session.record.observes.size(), 1U);
    return session.record.observes[0];
  };
  CHECK_EQUAL(observed().flags, 0U);
  session.observations["obs"] = Tensor(2.0);
  CHECK_EQUAL(observed().flags, detail::observe_flag::scored);
  check_close(observed().log_prob, log_prob(Normal{session.value(4), 1.0}, 2.0), 1e-14, "log likelihood");
  session.observations["obs"] = Tensor{{2.0}, {1}};
  CHECK_EQUAL(observed().flags, detail::observe_flag::scored);
  session.observations["obs"] = Tensor{{2.0, 3.0}, {2}};
  CHECK_EQUAL(observed().flags, detail::observe_flag::misfit | detail::observe_flag::parameters);
  CHECK(std::isnan(observed().log_prob));
  request.score = false;
  CHECK_EQUAL(observed().flags, 0U);
  CHECK_EQUAL(observed().log_prob, 0.0);
  request.draw_below = 2;
  request.parameters = true;
  CHECK_EQUAL(observed().flags, detail::observe_flag::value | detail::observe_flag::parameters);
  double local = 0.0;
  run_local(model, 3, [&](const Event& event) {
    if (event.kind == Event::Kind::observe) local = event.value->data[0];
  });
  const std::uint32_t first = session.record.observes[0].arrays;
  CHECK_EQUAL(session.record.data[session.record.arrays[first].start], local);
  CHECK_EQUAL(session.record.data[session.record.arrays[first + 1].start], session.value(4));
}

/// Catches the exception that ends a run, and continues.
struct Stubborn final : Model {
  std::string name() const override { return "stubborn"; }
  Tensor forward() override {
    double sum = 0.0;
    for (int i = 0; i < 5; ++i) {
      try {
        sum += sample(Uniform{0.0, 1.0});
      } catch (...) {
        sum = -1.0;
      }
    }
    return sum;
  }
};

void a_model_that_catches_the_end_sends_nothing_more() {
  Stubborn model;
  Session session;
  session.run(model, with_details(), 1);
  RunRequest request = session.replay(5);
  request.rows[1].address = request.rows[0].address;
  CHECK(session.run(model, request, 1));
  CHECK_EQUAL(session.trace().flags, detail::trace_flag::mismatch);
  CHECK_EQUAL(session.record.entries.size(), 1U);
  CHECK_EQUAL(session.trace().result, -1);
}

// ---------------------------------------------------------------------------------------------------- a served batch

[[gnu::noinline]] double here() { return sample(Uniform{0.0, 1.0}, true, "here") + 1.0; }
[[gnu::noinline]] double there() { return sample(Uniform{0.0, 1.0}, true, "there") + 2.0; }

/// Sets its site table in its first run, and draws in the opposite order in the second.
struct Unsettled final : Model {
  int runs = 0;
  std::string name() const override { return "unsettled"; }
  Tensor forward() override {
    if (++runs == 1) set_sites(SiteTable::parse("uncontrolled no_such_function\n", "test"));
    return runs == 1 ? here() + there() : there() + here();
  }
};

namespace wire = ppx::wire;

/// Serves a model until destroyed.
class Served {
 public:
  explicit Served(Model& model) {
    options_.endpoint = "tcp://127.0.0.1:*";
    options_.stop = &stop_;
    std::promise<std::string> bound;
    options_.on_bound = [&bound](const std::string& where) { bound.set_value(where); };
    done_ = std::async(std::launch::async, [this, &model] { serve(model, options_); });
    endpoint_ = bound.get_future().get();
  }
  ~Served() {
    stop_ = 1;
    done_.wait();
  }
  Served(const Served&) = delete;
  Served& operator=(const Served&) = delete;
  const std::string& endpoint() const { return endpoint_; }

 private:
  volatile std::sig_atomic_t stop_ = 0;
  ServeOptions options_;
  std::future<void> done_;
  std::string endpoint_;
};

std::uint64_t session_of(Client& client) {
  const auto greeting = message::make(wire::MessageBody_Handshake,
                                      [](auto& b) { return wire::CreateHandshake(b, 0, detail::delegation_version); });
  const auto* agreed = client.ask(greeting).body_as_HandshakeResult();
  CHECK(agreed != nullptr && agreed->delegation() == detail::delegation_version);
  CHECK(agreed->session() != 0);
  return agreed->session();
}

Client::Bytes run_of(std::uint64_t session, wire::RunMode mode, const std::vector<std::uint64_t>& seeds) {
  return message::make(wire::MessageBody_Run,
                       [&](auto& b) { return wire::CreateRun(b, mode, session, b.CreateVector(seeds)); });
}

void a_site_table_may_change_between_the_runs_of_a_batch() {
  Unsettled model;
  {
    const Served served(model);
    Client client(served.endpoint());
    const auto* result = client.ask(run_of(session_of(client), wire::RunMode_delegated, {1, 2})).body_as_RunResult();
    CHECK(result != nullptr && result->traces() != nullptr);
    const wire::Traces& traces = *result->traces();
    CHECK_EQUAL(traces.entries()->size(), 4U);
    CHECK_EQUAL(traces.addresses()->size(), 2U + 2U);  // the opposite order gives another stack
    std::set<std::pair<std::string, std::string>> seen;
    for (const wire::Entry* entry : *traces.entries()) {
      const wire::AddressKey* key = traces.addresses()->Get(entry->address());
      const std::string address = traces.texts()->Get(key->base())->str();
      const std::string name = traces.texts()->Get(key->name())->str();
      CHECK_EQUAL(key->instance(), 1U);
      seen.emplace(name, address.substr(address.rfind("; ")));
    }
    CHECK_EQUAL(seen.size(), 2U);  // one innermost frame per name
  }
  set_sites(SiteTable{});
}

void a_session_ends_with_an_abandoned_run() {
  TestModel model;
  const Served served(model);
  Client client(served.endpoint());
  const std::uint64_t session = session_of(client);
  CHECK(client.ask(run_of(session, wire::RunMode_delegated, {1})).body_as_RunResult() != nullptr);
  CHECK(client.ask(run_of(session + 2, wire::RunMode_delegated, {1})).body_as_Reset() != nullptr);
  CHECK(client.ask(run_of(session, wire::RunMode_delegated, {1})).body_as_RunResult() != nullptr);
  CHECK(client.ask(run_of(session, wire::RunMode_assisted, {1})).body_as_Sample() != nullptr);
  CHECK(client.ask(message::reset()).body_as_Reset() != nullptr);
  // its terms were not sent
  CHECK(client.ask(run_of(session, wire::RunMode_delegated, {1})).body_as_Reset() != nullptr);
  const std::uint64_t next = session_of(client);
  CHECK(next != session);
  CHECK(client.ask(run_of(session, wire::RunMode_delegated, {1})).body_as_Reset() != nullptr);
  CHECK(client.ask(run_of(next, wire::RunMode_delegated, {1})).body_as_RunResult() != nullptr);
  CHECK(client.ask(run_of(next, wire::RunMode_delegated, {})).body_as_Reset() != nullptr);
  CHECK(client.ask(run_of(next, wire::RunMode_assisted, {1, 2})).body_as_Reset() != nullptr);
}

}  // namespace

int main() {
  return run_tests({
      {"prior runs are local runs", prior_runs_are_local_runs},
      {"assisted runs ask for controlled draws", assisted_runs_ask_for_controlled_draws},
      {"proposed rows are taken while they fit", proposed_rows_are_taken_while_they_fit},
      {"observations are scored, drawn or misfit", observations_are_scored_drawn_or_misfit},
      {"a model that catches the end sends nothing more", a_model_that_catches_the_end_sends_nothing_more},
      {"a site table may change between the runs of a batch", a_site_table_may_change_between_the_runs_of_a_batch},
      {"a session ends with an abandoned run", a_session_ends_with_an_abandoned_run},
  });
}
