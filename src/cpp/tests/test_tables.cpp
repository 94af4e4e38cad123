// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Numbers that both sides share, and the encoding of arrays.
#include <set>

#include "check.hpp"
#include "request.hpp"  // includes record.hpp of the library, not that of the tests
#include "tables.hpp"

namespace {

using namespace ppx;
using detail::KnownPrior;
using detail::Record;
using detail::Site;
using detail::Tables;

Site site_of(const std::string& address, std::uint32_t id) {
  Site site;
  site.address = address;
  site.id = id;
  return site;
}

void both_sides_use_the_same_numbers() {
  Tables tables;
  const Site f = site_of("[f]", 0);
  const Site g = site_of("[g]", 1);
  CHECK(tables.learn_text("[g]__Normal") && tables.learn_text(""));
  CHECK(!tables.learn_text(""));  // it has a number already
  CHECK(tables.learn_address({0, 1, 1, 1}));
  CHECK(!tables.learn_address({0, 1, 1, 1}));
  CHECK(!tables.learn_address({9, 1, 1, 1}) && !tables.learn_address({0, 1, 9, 1}));
  CHECK(!tables.learn_address({0, 0, 1, 1}) && !tables.learn_address({0, 1, 1, 4}));
  tables.sent();
  CHECK_EQUAL(tables.news().text_count, 0U);

  tables.begin_run(1);
  const auto key = [&](const Site& site, const Distribution& distribution, std::uint32_t flags) {
    detail::Base& base = tables.base_at(tables.base(site, distribution));
    return tables.key(tables.place(base, tables.next_instance(base)), tables.name(site, ""), flags);
  };
  CHECK_EQUAL(key(g, Normal{0.0, 1.0}, 1), 0U);  // from the inference side
  CHECK_EQUAL(key(g, Normal{0.0, 1.0}, 1), 1U);  // its second instance
  CHECK_EQUAL(key(f, Normal{0.0, 1.0}, 1), 2U);
  CHECK_EQUAL(key(f, Categorical{{{1.0, 1.0}, {2}}}, 1), 3U);
  CHECK_EQUAL(key(f, Categorical{{{1.0, 1.0, 1.0}, {3}}}, 1), 4U);  // another base
  CHECK_EQUAL(key(site_of("[f]", 7), Normal{0.0, 1.0}, 1), 5U);     // another stack, the same label: instance 2
  tables.begin_run(2);
  CHECK_EQUAL(key(g, Normal{3.0, 1.0}, 1), 0U);
  CHECK_EQUAL(key(f, Normal{3.0, 1.0}, 0), 6U);  // the same place, not controlled
  CHECK_EQUAL(tables.key_at(6).place, tables.key_at(2).place);
  CHECK_EQUAL(tables.address_count(), 7U);

  const Tables::News news = tables.news();
  CHECK_EQUAL(news.address_count, 6U);
  CHECK_EQUAL(news.addresses[0].instance, 2U);
  CHECK_EQUAL(news.text_count, 3U);
  CHECK_EQUAL(news.texts[0], "[f]__Normal");
  CHECK_EQUAL(news.texts[1], "[f]__Categorical(len_probs:2)");
  CHECK_EQUAL(news.texts[2], "[f]__Categorical(len_probs:3)");
  CHECK_EQUAL(news.addresses[4].instance, 2U);
  tables.sent();
  CHECK_EQUAL(tables.news().address_count, 0U);
}

void priors_are_kept_up_to_a_bound() {
  Tables tables;
  const Site site = site_of("[f]", 0);
  std::uint32_t kept = 0;
  while (tables.prior(site, Normal{static_cast<double>(kept), 1.0}).number == kept) ++kept;
  CHECK(kept >= 1000);  // the next one was valid in its message only
  CHECK_EQUAL(tables.prior(site, Normal{-1.0, 1.0}).number, KnownPrior::own + 1);
  CHECK_EQUAL(tables.prior(site, Normal{static_cast<double>(kept), 1.0}).number, KnownPrior::own);
  CHECK_EQUAL(tables.prior(site, Normal{5.0, 1.0}).number, 5U);
  CHECK_EQUAL(tables.news().kept_priors, kept);
  CHECK_EQUAL(tables.news().priors->size(), std::size_t{kept} + 2);
  CHECK_EQUAL(tables.prior(site, Normal{-1.0, 1.0}).number, KnownPrior::own + 1);
  tables.sent();
  // the site still has the prior, but not its number
  CHECK_EQUAL(tables.prior(site, Normal{-1.0, 1.0}).number, KnownPrior::own);
  CHECK_EQUAL(tables.prior(site, Normal{-1.0, 1.0}).number, KnownPrior::own);
  CHECK_EQUAL(tables.news().kept_priors, 0U);
  CHECK_EQUAL(tables.news().priors->size(), 1U);
  CHECK_EQUAL(tables.news().parameters->size(), 2U);
  tables.sent();
  CHECK_EQUAL(tables.prior(site, Normal{5.0, 1.0}).number, 5U);
  CHECK_EQUAL(tables.news().priors->size(), 0U);
}

void priors_of_different_kinds_with_the_same_numbers_differ() {
  Tables tables;
  const Site site = site_of("[f]", 0);
  std::set<std::uint32_t> numbers;
  std::set<std::uint64_t> supports;
  for (const Distribution& distribution : std::vector<Distribution>{
           Normal{1.0, 2.0}, Uniform{1.0, 2.0}, Beta{1.0, 2.0}, Gamma{1.0, 2.0}, LogNormal{1.0, 2.0}, Weibull{1.0, 2.0},
           StudentT{1.0, 2.0, 1.0}, NegativeBinomial{1.0, 0.5}, Categorical{{{1.0, 2.0}, {2}}}, Poisson{1.0},
           Exponential{1.0}, Bernoulli{1.0}}) {
    numbers.insert(tables.prior(site, distribution).number);
    supports.insert(tables.prior(site, distribution).support);
  }
  CHECK_EQUAL(numbers.size(), 12U);
  CHECK_EQUAL(supports.size(), 12U);
}

void arrays_are_sparse_if_that_is_shorter() {
  Record record;
  Tensor image(std::vector<double>(100, 0.0), {4, 25});
  image.data[3] = 1.5;
  image.data[99] = -2.0;
  CHECK_EQUAL(record.add(Tensor(3.0)), 0U);
  CHECK_EQUAL(record.add(image), 1U);
  Tensor full(std::vector<double>(100, 1.0), {100});
  std::fill(full.data.begin(), full.data.begin() + 50, 0.0);
  CHECK_EQUAL(record.add(full), 2U);
  CHECK_EQUAL(record.add(Tensor(std::vector<double>(63, 0.0), {63})), 3U);
  CHECK_EQUAL(record.add(Tensor(std::vector<double>(64, 0.0), {64})), 4U);
  CHECK_EQUAL(record.add(Tensor({}, {0, 3})), 5U);
  std::vector<std::uint32_t> sparse;
  std::vector<std::uint32_t> counts;
  for (const detail::ArrayRecord& array : record.arrays) {
    sparse.push_back(array.sparse);
    counts.push_back(array.count);
  }
  CHECK((sparse == std::vector<std::uint32_t>{0, 1, 0, 0, 1, 0}));
  CHECK((counts == std::vector<std::uint32_t>{1, 2, 100, 63, 0, 0}));
  CHECK((record.index == std::vector<std::uint32_t>{3, 99}));
  CHECK_EQUAL(record.data[record.arrays[1].start], 1.5);
  CHECK_EQUAL(record.data[record.arrays[1].start + 1], -2.0);
  CHECK_EQUAL(record.arrays[1].rank, 2U);
  CHECK_EQUAL(record.shape[record.arrays[1].shape_start + 1], 25);
  CHECK_EQUAL(record.arrays[2].start, 3U);
  CHECK_EQUAL(record.arrays[4].index_start, 2U);
  record.clear();
  CHECK(record.data.empty() && record.index.empty() && record.shape.empty() && record.arrays.empty());
}

}  // namespace

int main() {
  return run_tests({
      {"both sides use the same numbers", both_sides_use_the_same_numbers},
      {"priors are kept up to a bound", priors_are_kept_up_to_a_bound},
      {"priors of different kinds differ", priors_of_different_kinds_with_the_same_numbers_differ},
      {"arrays are sparse if that is shorter", arrays_are_sparse_if_that_is_shorter},
  });
}
