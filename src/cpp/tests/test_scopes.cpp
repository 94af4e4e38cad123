// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Rejection scopes, by site table and by RejectionScope, and control by site table.
#include <algorithm>

#include "check.hpp"
#include "record.hpp"

// Not in an anonymous namespace, because site patterns match exported functions only.
#define KEEP __attribute__((noinline, noipa))

// Unknown to the compiler, so that a multiplication by it prevents a tail call, which would remove the frame.
static volatile double one = 1.0;

// Values decide the control flow, so the tests control them.
[[gnu::always_inline]] static inline double draw() { return ppx::sample(ppx::Uniform{0.0, 1.0}); }

/// Two draws and a test per repetition; accepted if the test is below 0.5.
KEEP double candidate() { return one * draw(); }
KEEP double loop_with_test() {
  double x = 0.0;
  do {
    x = candidate() + candidate();
  } while (draw() > 0.5);
  return x;
}
KEEP double outer_loop_with_test() {
  double x = 0.0;
  do {
    x = candidate() + loop_with_test();
  } while (draw() > 0.5);
  return x;
}
KEEP double plumbing() { return one * draw(); }
KEEP double through_plumbing() { return one * plumbing(); }
KEEP double loop_through_plumbing() {
  double x = 0.0;
  do {
    x = through_plumbing();
  } while (plumbing() > 0.5);
  return x;
}

KEEP double explicit_around_table() {
  ppx::RejectionScope scope;
  const double first = loop_with_test();
  scope.repeat();
  return first + loop_with_test();
}

KEEP double explicit_loop() {
  ppx::RejectionScope scope;
  const double first = candidate();
  scope.repeat();
  return first + candidate();
}

KEEP double table_around_explicit() {
  double x = 0.0;
  do {
    x = explicit_loop();
  } while (draw() > 0.5);
  return x;
}

namespace {

/// The caller lists the positions of rejected tests: these draws get 0.9, all others 0.1.
ppx::Steer reject_at(std::vector<int> positions) {
  auto position = std::make_shared<int>(0);
  return [positions = std::move(positions), position](const ppx::Event&) -> std::optional<double> {
    const bool reject = std::find(positions.begin(), positions.end(), (*position)++) != positions.end();
    return reject ? 0.9 : 0.1;
  };
}

struct WithSites {
  explicit WithSites(const std::string& text) { ppx::set_sites(ppx::SiteTable::parse(text, "test")); }
  ~WithSites() { ppx::set_sites({}); }
  WithSites(const WithSites&) = delete;
  WithSites& operator=(const WithSites&) = delete;
};

/// "scope.repetition" of every draw; "-" outside scopes.
std::string places(const std::vector<Recorded>& records) {
  std::string text;
  for (const Recorded& r : records) {
    if (r.replace != (r.scope != 0)) return "replace and scope disagree";
    if (!text.empty()) text += ' ';
    text += r.scope == 0 ? "-" : std::to_string(r.scope) + "." + std::to_string(r.repetition);
  }
  return text;
}

void a_test_draw_ends_a_repetition() {
  const WithSites sites("scope loop_with_test\n");
  const auto model = [] {
    const double before = candidate();
    return ppx::Tensor(before + loop_with_test() + candidate());
  };
  CHECK_EQUAL(places(record(model, 0, reject_at({}))), "- 1.0 1.0 1.0 -");
  CHECK_EQUAL(places(record(model, 0, reject_at({3, 6}))), "- 1.0 1.0 1.0 1.1 1.1 1.1 1.2 1.2 1.2 -");
}

void executions_separated_by_a_draw_or_call_site_are_different_scopes() {
  const WithSites sites("scope loop_*\n");
  const auto loop_over = [] {
    double sum = 0.0;
    for (int i = 0; i < 2; ++i) sum += candidate() + loop_with_test();
    return ppx::Tensor(sum);
  };
  CHECK_EQUAL(places(record(loop_over, 0, reject_at({3}))), "- 1.0 1.0 1.0 1.1 1.1 1.1 - 2.0 2.0 2.0");
  const auto in_a_row = [] {
    const double first = loop_with_test();
    return ppx::Tensor(first + loop_with_test());
  };
  CHECK_EQUAL(places(record(in_a_row, 0, reject_at({}))), "1.0 1.0 1.0 2.0 2.0 2.0");
}

void numbers_restart_in_every_run() {
  const WithSites sites("scope loop_with_test\n");
  const auto model = [] { return ppx::Tensor(loop_with_test()); };
  CHECK_EQUAL(places(record(model, 0, reject_at({}))), "1.0 1.0 1.0");
  CHECK_EQUAL(places(record(model, 0, reject_at({}))), "1.0 1.0 1.0");
}

void the_outermost_scope_wins() {
  const WithSites sites("scope loop_with_test\nscope outer_loop_with_test\n");
  // candidate, [candidate, candidate, test]*, test
  const auto model = [] { return ppx::Tensor(outer_loop_with_test()); };
  CHECK_EQUAL(places(record(model, 0, reject_at({3}))), "1.0 1.0 1.0 1.0 1.0 1.0 1.0 1.0");
  CHECK_EQUAL(places(record(model, 0, reject_at({4}))), "1.0 1.0 1.0 1.0 1.0 1.1 1.1 1.1 1.1 1.1");
}

void addresses_do_not_depend_on_the_repetition() {
  const WithSites sites("scope loop_with_test\n");
  const auto r = record([] { return ppx::Tensor(loop_with_test()); }, 0, reject_at({2}));
  CHECK_EQUAL(r.size(), std::size_t{6});
  for (std::size_t i = 0; i < 3; ++i) CHECK_EQUAL(r[i].address, r[i + 3].address);
}

void an_adapter_reveals_the_test() {
  // All draws go through `plumbing`: without the rule, the loop is never the innermost frame.
  const auto model = [] { return ppx::Tensor(loop_through_plumbing()); };
  {
    const WithSites sites("scope loop_through_plumbing\n");
    CHECK_EQUAL(places(record(model, 0, reject_at({1}))), "1.0 1.0 1.0 1.0");
  }
  const WithSites sites("scope loop_through_plumbing\nadapter plumbing\n");
  CHECK_EQUAL(places(record(model, 0, reject_at({1}))), "1.0 1.0 1.1 1.1");
}

void explicit_scopes_count_repetitions() {
  const auto model = [] {
    double sum = candidate();
    for (int i = 0; i < 2; ++i) {
      ppx::RejectionScope scope;
      for (;;) {
        sum += candidate();
        if (draw() < 0.5) break;
        scope.repeat();
      }
    }
    return ppx::Tensor(sum + candidate());
  };
  CHECK_EQUAL(places(record(model, 0, reject_at({2, 4}))), "- 1.0 1.0 1.1 1.1 1.2 1.2 2.0 2.0 -");
}

void explicit_scopes_nest_and_outermost_wins() {
  const auto model = [] {
    double sum = 0.0;
    ppx::RejectionScope outer;
    for (int i = 0; i < 2; ++i) {
      if (i > 0) outer.repeat();
      {
        ppx::RejectionScope inner;
        sum += draw();
        inner.repeat();
        sum += draw();
      }
      sum += draw();
    }
    return ppx::Tensor(sum);
  };
  CHECK_EQUAL(places(record(model, 0, reject_at({}))), "1.0 1.0 1.0 1.1 1.1 1.1");
}

void explicit_and_table_scopes_nest_in_both_orders() {
  {
    const WithSites sites("scope loop_with_test\n");
    CHECK_EQUAL(places(record([] { return ppx::Tensor(explicit_around_table()); }, 0, reject_at({}))),
                "1.0 1.0 1.0 1.1 1.1 1.1");
  }
  const WithSites sites("scope table_around_explicit\n");
  CHECK_EQUAL(places(record([] { return ppx::Tensor(table_around_explicit()); }, 0, reject_at({2}))),
              "1.0 1.0 1.0 1.1 1.1 1.1");
}

void a_scope_that_an_exception_leaves_is_closed() {
  const auto model = [] {
    try {
      ppx::RejectionScope scope;
      draw();
      throw std::runtime_error("left");
    } catch (const std::runtime_error&) {
      return ppx::Tensor(draw());
    }
  };
  CHECK_EQUAL(places(record(model, 0, reject_at({}))), "1.0 -");
}

void statements_outside_runs_have_no_effect() {
  ppx::RejectionScope scope;
  scope.repeat();
  const double x = draw();
  CHECK(x >= 0.0 && x < 1.0);
  ppx::observe(ppx::Normal{0.0, 1.0}, "nothing");
  ppx::tag("nothing", 1.0);
}

void first_matching_control_rule_wins() {
  const auto controls = [](const std::string& text) {
    const WithSites sites(text);
    std::string result;
    const auto model = [] {
      const double a = candidate() + loop_with_test();
      return ppx::Tensor(a + ppx::sample(ppx::Uniform{0.0, 1.0}, false));
    };
    for (const Recorded& r : record(model, 0, reject_at({}))) result += r.control ? 'c' : 'u';
    return result;
  };
  CHECK_EQUAL(controls(""), "ccccu");
  CHECK_EQUAL(controls("uncontrolled candidate\n"), "uuucu");
  CHECK_EQUAL(controls("controlled loop_with_test\nuncontrolled candidate\n"), "ucccu");
  CHECK_EQUAL(controls("uncontrolled candidate\ncontrolled *\n"), "uuucc");
}

}  // namespace

int main() {
  return run_tests({{"a test draw ends a repetition", a_test_draw_ends_a_repetition},
                    {"executions separated by a draw or call site are different scopes",
                     executions_separated_by_a_draw_or_call_site_are_different_scopes},
                    {"numbers restart in every run", numbers_restart_in_every_run},
                    {"the outermost scope wins", the_outermost_scope_wins},
                    {"addresses do not depend on the repetition", addresses_do_not_depend_on_the_repetition},
                    {"an adapter reveals the test", an_adapter_reveals_the_test},
                    {"explicit scopes count repetitions", explicit_scopes_count_repetitions},
                    {"explicit scopes nest and the outermost wins", explicit_scopes_nest_and_outermost_wins},
                    {"explicit and table scopes nest in both orders", explicit_and_table_scopes_nest_in_both_orders},
                    {"a scope that an exception leaves is closed", a_scope_that_an_exception_leaves_is_closed},
                    {"statements outside runs have no effect", statements_outside_runs_have_no_effect},
                    {"the first matching control rule wins", first_matching_control_rule_wins}});
}
