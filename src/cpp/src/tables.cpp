// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include "tables.hpp"

#include <algorithm>
#include <cstring>

#include "elements.hpp"
#include "log_prob.hpp"
#include "parameters.hpp"
#include "record.hpp"

namespace ppx::detail {
namespace {

constexpr std::uint32_t categorical_kind = 3;

std::uint32_t kind_of(const Distribution& distribution) { return static_cast<std::uint32_t>(distribution.index()) + 1; }

std::uint32_t categories_of(const Distribution& distribution) {
  const auto* categorical = std::get_if<Categorical>(&distribution);
  return categorical == nullptr ? 0 : static_cast<std::uint32_t>(categorical->probs.data.size());
}

/// The suffix of addresses, as in etalumis.distributions: the name of the distribution, for a categorical with its
/// length.
std::string suffix_of(const Distribution& distribution) {
  std::string suffix(distribution_name(distribution));
  if (kind_of(distribution) == categorical_kind) {
    suffix += "(len_probs:" + std::to_string(categories_of(distribution)) + ")";
  }
  return suffix;
}

bool same_parameters(const Distribution& distribution, const std::vector<double>& known) {
  std::size_t position = 0;
  for (const Parameter& parameter : parameters(distribution)) {
    const auto& data = parameter.value->data;
    if (known.size() < position + data.size()) return false;
    for (const double value : data) {
      if (known[position++] != value) return false;
    }
  }
  return position == known.size();
}

std::string key_of(std::uint32_t kind, const std::vector<double>& parameters) {
  std::string key(sizeof(kind) + parameters.size() * sizeof(double), '\0');
  std::memcpy(key.data(), &kind, sizeof(kind));
  if (!parameters.empty()) {
    std::memcpy(key.data() + sizeof(kind), parameters.data(), parameters.size() * sizeof(double));
  }
  return key;
}

}  // namespace

std::uint32_t TextTable::number(std::string_view text) {
  const auto [found, is_new] = numbers_.try_emplace(std::string(text), static_cast<std::uint32_t>(texts_.size()));
  if (is_new) texts_.push_back(found->first);
  return found->second;
}

Distribution Tables::distribution(std::uint32_t number) const {
  if (number < KnownPrior::own) return kept_[number];
  const PriorRecord& record = priors_[new_kept_ + (number - KnownPrior::own)];
  return scalar_distribution(record.kind, parameters_.data() + record.first, record.count);
}

void Tables::forget_sites() { sites_.clear(); }

std::uint32_t Tables::find_base(SiteEntry& known, const Site& site, const Distribution& distribution) {
  const std::uint32_t kind = kind_of(distribution);
  const std::uint32_t categories = categories_of(distribution);
  for (const SiteBase& candidate : known.bases) {
    if (candidate.kind == kind && candidate.categories == categories) return candidate.base;
  }
  // Several stacks may have the same label, e.g. without the frames of an adapter.
  const std::uint32_t text = texts_.number(site.address + "__" + suffix_of(distribution));
  const auto [found, is_new] = base_of_text_.try_emplace(text, static_cast<std::uint32_t>(bases_.size()));
  if (is_new) bases_.emplace_back().text = text;
  known.bases.push_back({kind, categories, found->second});
  return found->second;
}

std::uint32_t Tables::place(Base& base, std::uint32_t instance) {
  if (base.places.size() < instance) base.places.resize(instance, 0);
  std::uint32_t& known = base.places[instance - 1];
  if (known == 0) known = place(base.text, instance) + 1;
  return known - 1;
}

std::uint32_t Tables::place(std::uint32_t base_text, std::uint32_t instance) {
  const std::uint64_t packed = std::uint64_t{base_text} << 32U | instance;
  const auto [found, is_new] = place_numbers_.try_emplace(packed, static_cast<std::uint32_t>(places_.size()));
  if (is_new) places_.push_back({base_text, instance, {}});
  return found->second;
}

std::uint32_t Tables::key(std::uint32_t place, std::uint32_t name, std::uint32_t flags) {
  Place& known = places_[place];
  for (const std::uint32_t number : known.keys) {  // usually one
    if (known_keys_[number].name == name && known_keys_[number].flags == flags) return number;
  }
  const auto number = static_cast<std::uint32_t>(addresses_.size());
  addresses_.push_back({known.base, known.instance, name, flags});
  known_keys_.push_back({number, place, name, flags});
  known.keys.push_back(number);
  return number;
}

const KnownKey& Tables::find_key(Base& base, std::uint32_t instance, std::uint32_t name, std::uint32_t flags) {
  if (base.keys.size() < instance) base.keys.resize(instance, KnownKey{0, KnownKey::none, 0, 0});
  KnownKey& met = base.keys[instance - 1];
  met = known_keys_[key(place(base, instance), name, flags)];
  return met;
}

bool Tables::learn_text(std::string_view text) {
  const std::size_t before = text_count();
  texts_.number(text);
  return text_count() > before;
}

bool Tables::learn_address(AddressKey key) {
  constexpr std::uint32_t allowed = entry_flag::controlled | entry_flag::replaced;
  if (key.base >= text_count() || key.name >= text_count() || key.instance == 0 || (key.flags & ~allowed) != 0) {
    return false;
  }
  const std::size_t before = address_count();
  this->key(place(key.base, key.instance), key.name, key.flags);
  return address_count() > before;
}

const KnownPrior& Tables::find_prior(SiteEntry& known, const Distribution& distribution) {
  const std::uint32_t kind = kind_of(distribution);
  if (known.kind == kind && same_parameters(distribution, known.prior.parameters)) {
    if (known.prior.number >= KnownPrior::own && known.message != message_) {
      known.prior.number = number_prior(kind, known.prior.parameters);
      known.message = message_;
    }
    return known.prior;
  }
  known.kind = kind;
  known.prior.parameters.clear();
  for (const Parameter& parameter : parameters(distribution)) {
    const auto& data = parameter.value->data;
    known.prior.parameters.insert(known.prior.parameters.end(), data.begin(), data.end());
  }
  known.prior.support = support_digest(distribution);
  known.prior.is_flat = std::holds_alternative<Uniform>(distribution);
  if (known.prior.is_flat) known.prior.flat_log_density = log_prob(distribution, known.prior.parameters[0]);
  known.prior.number = number_prior(kind, known.prior.parameters);
  known.message = message_;
  return known.prior;
}

std::uint32_t Tables::number_prior(std::uint32_t kind, const std::vector<double>& parameters) {
  const std::string key = key_of(kind, parameters);
  if (const auto found = kept_priors_.find(key); found != kept_priors_.end()) return found->second;
  // Kept priors precede those of the message only: after the first of the latter, no more are kept.
  if (kept_priors_.size() < max_kept_priors && own_priors_.empty()) {
    const auto number = static_cast<std::uint32_t>(kept_priors_.size());
    kept_priors_.emplace(key, number);
    kept_.push_back(scalar_distribution(kind, parameters.data(), parameters.size()));
    new_record(kind, parameters);
    ++new_kept_;
    return number;
  }
  const auto [found, is_new] = own_priors_.try_emplace(key, 0);
  if (is_new) found->second = KnownPrior::own + new_record(kind, parameters) - new_kept_;
  return found->second;
}

std::uint32_t Tables::new_record(std::uint32_t kind, const std::vector<double>& parameters) {
  priors_.push_back({kind, static_cast<std::uint32_t>(parameters.size()), parameters_.size()});
  parameters_.insert(parameters_.end(), parameters.begin(), parameters.end());
  return static_cast<std::uint32_t>(priors_.size()) - 1;
}

Tables::News Tables::news() const {
  return {texts_.all().data() + texts_sent_,
          texts_.all().size() - texts_sent_,
          addresses_.data() + addresses_sent_,
          addresses_.size() - addresses_sent_,
          new_kept_,
          &priors_,
          &parameters_};
}

void Tables::sent() {
  texts_sent_ = texts_.all().size();
  addresses_sent_ = addresses_.size();
  priors_.clear();
  parameters_.clear();
  own_priors_.clear();
  new_kept_ = 0;
  ++message_;
}

}  // namespace ppx::detail
