// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Numbers that both sides of a connection use for texts, addresses and priors, each of which is sent once.
#ifndef PPX_SRC_TABLES_HPP
#define PPX_SRC_TABLES_HPP

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "address_table.hpp"
#include "ppx/ppx.hpp"

namespace ppx::detail {

/// Layout of the schema's struct AddressKey.
struct AddressKey {
  std::uint32_t base;
  std::uint32_t instance;
  std::uint32_t name;
  std::uint32_t flags;
};

/// A key of an entry. Rows are found by its place, i.e. base and instance; names and flags may differ.
struct KnownKey {
  static constexpr std::uint32_t none = 0xffffffffU;

  std::uint32_t number;
  std::uint32_t place;
  std::uint32_t name;
  std::uint32_t flags;
};

/// Layout of the schema's struct Prior.
struct PriorRecord {
  std::uint32_t kind;
  std::uint32_t count;
  std::uint64_t first;
};

/// Numbered strings: base addresses, names of entries, of observations and of tags.
class TextTable {
 public:
  std::uint32_t number(std::string_view text);
  const std::vector<std::string>& all() const { return texts_; }

 private:
  std::vector<std::string> texts_;
  std::unordered_map<std::string, std::uint32_t> numbers_;
};

/// A base address and its state in the current run.
struct Base {
  std::uint32_t text = 0;
  std::uint64_t run = 0;              // the run of `count`
  std::uint32_t count = 0;            // executions so far, without those of rejected repetitions
  std::vector<KnownKey> keys;         // by instance - 1: the last key; its place is `none` if there is none
  std::vector<std::uint32_t> places;  // by instance - 1: number + 1 of the place, 0 if there is none
};

/// A scalar prior. A `number` of `own` or more is valid in the current message only.
struct KnownPrior {
  static constexpr std::uint32_t own = 0x80000000U;

  std::uint32_t number = 0;
  std::uint64_t support = 0;
  std::vector<double> parameters;
  bool is_flat = false;           // uniform: constant density
  double flat_log_density = 0.0;  // if it is flat
};

/// The tables of one session. Call `forget_sites` if the site table of the process has changed.
class Tables {
 public:
  /// What is known of a call site; looked up once per draw.
  struct SiteBase {
    std::uint32_t kind;
    std::uint32_t categories;
    std::uint32_t base;
  };
  struct SiteEntry {
    std::vector<SiteBase> bases;
    std::uint32_t kind = 0;
    KnownPrior prior;           // the last prior at this site
    std::uint64_t message = 0;  // the message of its number, if that is valid in one message only
    std::optional<std::uint32_t> name;
    std::string name_text;
  };

  /// The reference is valid until another site is looked up.
  SiteEntry& entry(const Site& site) {
    if (site.id >= sites_.size()) sites_.resize(site.id + 1);
    return sites_[site.id];
  }
  /// The base address of a draw from `distribution` at `site`: call stack and kind of distribution.
  std::uint32_t base(const Site& site, const Distribution& distribution) {
    return base(entry(site), site, distribution);
  }
  std::uint32_t base(SiteEntry& known, const Site& site, const Distribution& distribution) {
    const auto kind = static_cast<std::uint32_t>(distribution.index()) + 1;
    if (!known.bases.empty() && known.bases[0].kind == kind && known.bases[0].categories == 0) {
      return known.bases[0].base;
    }
    return find_base(known, site, distribution);
  }
  Base& base_at(std::uint32_t index) { return bases_[index]; }
  /// Resets instance numbers; `run` differs for every run of the thread.
  void begin_run(std::uint64_t run) { run_ = run; }
  std::uint32_t next_instance(Base& base) const {
    if (base.run != run_) {
      base.run = run_;
      base.count = 0;
    }
    return ++base.count;
  }
  /// The key of the `instance`-th execution (from 1) of a base.
  const KnownKey& key(Base& base, std::uint32_t instance, std::uint32_t name, std::uint32_t flags) {
    if (instance <= base.keys.size()) {
      const KnownKey& met = base.keys[instance - 1];
      if (met.name == name && met.flags == flags && met.place != KnownKey::none) return met;
    }
    return find_key(base, instance, name, flags);
  }
  /// The place of the `instance`-th execution (from 1) of a base.
  std::uint32_t place(Base& base, std::uint32_t instance);
  /// The number of the key of an entry at a place.
  std::uint32_t key(std::uint32_t place, std::uint32_t name, std::uint32_t flags);
  const KnownKey& key_at(std::uint32_t number) const { return known_keys_[number]; }
  const std::string& text_at(std::uint32_t number) const { return texts_.all()[number]; }
  /// A prior by its number, in the session or in the current message.
  Distribution distribution(std::uint32_t number) const;
  /// The number of a prior. The first priors are kept for the session, up to a bound; others get new numbers in every
  /// message, so that a model whose parameters never repeat does not fill the memory of either side.
  const KnownPrior& prior(const Site& site, const Distribution& distribution) {
    return prior(entry(site), distribution);
  }
  const KnownPrior& prior(SiteEntry& known, const Distribution& distribution) {
    const auto* uniform = std::get_if<Uniform>(&distribution);
    if (uniform != nullptr && known.prior.is_flat && known.prior.number < KnownPrior::own &&
        uniform->low.data.size() == 1 && uniform->high.data.size() == 1 &&
        uniform->low.data[0] == known.prior.parameters[0] && uniform->high.data[0] == known.prior.parameters[1]) {
      return known.prior;
    }
    return find_prior(known, distribution);
  }
  std::uint32_t text(std::string_view text) { return texts_.number(text); }

  /// The number of the name given at `site`.
  std::uint32_t name(const Site& site, std::string_view name) { return this->name(entry(site), name); }
  std::uint32_t name(SiteEntry& known, std::string_view name) {
    if (known.name && known.name_text == name) return *known.name;
    known.name_text = name;
    return *(known.name = texts_.number(name));
  }

  /// Adds terms of the inference side, in the order of its message. False if a term has a number already, or if an
  /// address refers to an unknown text.
  bool learn_text(std::string_view text);
  bool learn_address(AddressKey key);

  void forget_sites();

  /// Terms that are new since the last call of `sent`.
  struct News {
    const std::string* texts;
    std::size_t text_count;
    const AddressKey* addresses;
    std::size_t address_count;
    std::uint32_t kept_priors;
    const std::vector<PriorRecord>* priors;
    const std::vector<double>* parameters;
  };
  News news() const;
  /// Records that both sides know all terms.
  void sent();

  std::size_t address_count() const { return addresses_.size(); }
  std::size_t place_count() const { return places_.size(); }
  std::size_t text_count() const { return texts_.all().size(); }

 private:
  struct Place {
    std::uint32_t base;
    std::uint32_t instance;
    std::vector<std::uint32_t> keys;
  };
  static constexpr std::size_t max_kept_priors = 4096;

  std::uint32_t find_base(SiteEntry& known, const Site& site, const Distribution& distribution);
  const KnownKey& find_key(Base& base, std::uint32_t instance, std::uint32_t name, std::uint32_t flags);
  const KnownPrior& find_prior(SiteEntry& known, const Distribution& distribution);
  std::uint32_t place(std::uint32_t base_text, std::uint32_t instance);
  std::uint32_t number_prior(std::uint32_t kind, const std::vector<double>& parameters);
  std::uint32_t new_record(std::uint32_t kind, const std::vector<double>& parameters);

  TextTable texts_;
  std::vector<AddressKey> addresses_;
  std::vector<KnownKey> known_keys_;
  std::vector<Place> places_;
  std::unordered_map<std::uint64_t, std::uint32_t> place_numbers_;
  std::vector<Base> bases_;
  std::unordered_map<std::uint32_t, std::uint32_t> base_of_text_;
  std::vector<SiteEntry> sites_;
  std::unordered_map<std::string, std::uint32_t> kept_priors_;
  std::vector<Distribution> kept_;  // by number
  std::unordered_map<std::string, std::uint32_t> own_priors_;
  std::vector<PriorRecord> priors_;  // of the current message
  std::vector<double> parameters_;
  std::uint32_t new_kept_ = 0;
  std::uint64_t run_ = 0;
  std::uint64_t message_ = 1;
  std::size_t texts_sent_ = 0;
  std::size_t addresses_sent_ = 0;
};

}  // namespace ppx::detail

#endif
