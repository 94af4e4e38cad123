// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Draws of tensors: one entry per element, in one repetition of a scope.
#include <set>

#include "check.hpp"
#include "elements.hpp"

namespace {

struct Seen {
  std::string address, name;
  double value;
  std::uint32_t scope, repetition;
};

}  // namespace

// Exported, so that the addresses are readable.
struct VectorModel final : ppx::Model {
  std::string name() const override { return "vectors"; }
  ppx::Tensor forward() override;
  ppx::Distribution prior = ppx::Normal{{{0.0, 100.0, 200.0, 300.0}, {2, 2}}, 1.0};
};

ppx::Tensor VectorModel::forward() {
  ppx::RejectionScope scope;
  ppx::sample_tensor(prior, true, "first");
  scope.repeat();
  return ppx::sample_tensor(prior);
}

namespace {

using namespace ppx;

std::vector<Seen> statements(VectorModel& model, Tensor& result) {
  std::vector<Seen> seen;
  result = run_local(model, 7, [&](const Event& event) {
    seen.push_back(
        {std::string(event.address), std::string(event.name), event.value->data.at(0), event.scope, event.repetition});
  });
  return seen;
}

void each_element_is_an_entry() {
  VectorModel model;
  Tensor result;
  const std::vector<Seen> seen = statements(model, result);
  CHECK_EQUAL(seen.size(), std::size_t{8});
  CHECK(result.shape == (std::vector<std::int32_t>{2, 2}));
  const std::vector<std::string> index = {"[0,0]", "[0,1]", "[1,0]", "[1,1]"};
  std::set<std::string> addresses;
  for (std::size_t i = 0; i < 8; ++i) {
    const std::string& expected = index[i % 4];
    const std::string& address = seen[i].address;
    CHECK_EQUAL(address.substr(address.size() - expected.size()), expected);
    CHECK_EQUAL(seen[i].name, i < 4 ? "first" + expected : "");
    CHECK(std::abs(seen[i].value - 100.0 * static_cast<double>(i % 4)) < 10.0);
    CHECK_EQUAL(seen[i].scope, std::uint32_t{1});
    CHECK_EQUAL(seen[i].repetition, static_cast<std::uint32_t>(i / 4));
    addresses.insert(address);
  }
  CHECK_EQUAL(addresses.size(), std::size_t{8});
  for (std::size_t i = 0; i < 4; ++i) CHECK_EQUAL(result.data[i], seen[4 + i].value);
}

void elements_have_their_parameters() {
  const Distribution rows = Categorical{{{0.25, 0.75, 1.0, 0.0}, {2, 2}}};
  const auto second = std::get<Categorical>(detail::element_distribution(rows, 1));
  CHECK(second.probs.data == (std::vector<double>{1.0, 0.0}));
  const auto t = std::get<StudentT>(detail::element_distribution(StudentT{3.0, {{1.0, 2.0}, {2}}, 0.5}, 1));
  CHECK(t.df.data[0] == 3.0 && t.loc.data[0] == 2.0 && t.scale.data[0] == 0.5);
  CHECK(detail::element_indices({}) == std::vector<std::string>{""});
  CHECK(detail::element_indices({2}) == (std::vector<std::string>{"[0]", "[1]"}));
}

void shapes_that_do_not_agree_are_named() {
  const Tensor six({0, 0, 0, 0, 0, 0}, {6});
  const Tensor two_by_three({1, 1, 1, 1, 1, 1}, {2, 3});
  CHECK_ERROR(ParameterError, sample_tensor(Normal{six, two_by_three}), "shape", "differs");
  CHECK_ERROR(ParameterError, sample_tensor(Normal{six, {{1.0, 1.0}, {2}}}), "6 elements", "2");
  CHECK_ERROR(ParameterError, sample_tensor(StudentT{two_by_three, {{1.0, 1.0}, {2}}, 1.0}), "6 elements", "loc has 2");
  CHECK_ERROR(ParameterError, sample(Normal{six, 1.0}), "sample_tensor");
  CHECK(sample_tensor(Normal{six, 1.0}).shape == std::vector<std::int32_t>{6});
  CHECK(sample_tensor(Poisson{3.0}).shape.empty());
}

}  // namespace

int main() {
  return run_tests({
      {"each element is an entry", each_element_is_an_entry},
      {"elements have their parameters", elements_have_their_parameters},
      {"shapes that do not agree are named", shapes_that_do_not_agree_are_named},
  });
}
