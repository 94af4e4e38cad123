// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Tests that replays of Sherpa events are identical bit for bit: in another order, with only the accepted repetitions
// of rejection loops, and after a run that was interrupted. Prints the sizes of the traces as one line of JSON.
//
// usage: sherpa_tau_replay_test CONFIG EVENTS SEED

#include <algorithm>
#include <cstdint>
#include <iostream>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.hpp"
#include "model.hpp"
#include "ppx/ppx.hpp"

namespace {

using sherpa_tau::tests::check;

struct Draw {
  std::string base;  // address of the stack
  double value;
  bool control;
  std::uint32_t scope;
  std::uint32_t repetition;
};

struct Record {
  std::vector<Draw> draws;
  std::vector<double> outcome;  // the expected image and all tags, concatenated
};

class Abandoned : public std::exception {};

// Runs one event with the given draws, followed by new ones.
Record run(sherpa_tau::TauDecay& model, std::uint64_t seed, const std::vector<Draw>* given = nullptr) {
  Record record;
  std::size_t next = 0;
  const auto keep = [&record](const ppx::Event& event) {
    if (event.kind == ppx::Event::Kind::sample) {
      record.draws.push_back(
          {std::string(event.address), event.value->data[0], event.control, event.scope, event.repetition});
    } else {
      const auto& data = event.kind == ppx::Event::Kind::tag ? event.value->data
                                                             : std::get<ppx::Normal>(*event.distribution).mean.data;
      record.outcome.insert(record.outcome.end(), data.begin(), data.end());
    }
  };
  const auto steer = [&](const ppx::Event& event) -> std::optional<double> {
    if (given == nullptr || next >= given->size()) return std::nullopt;
    const Draw& draw = (*given)[next++];
    if (event.address != draw.base) throw std::logic_error("replay took another path");
    return draw.value;
  };
  ppx::run_local(model, seed, keep, steer);
  return record;
}

void abandon(sherpa_tau::TauDecay& model, std::uint64_t seed, std::size_t after) {
  const auto steer = [&after](const ppx::Event&) -> std::optional<double> {
    if (after-- == 0) throw Abandoned();
    return std::nullopt;
  };
  try {
    ppx::run_local(model, seed, {}, steer);
    check(false, "a run that was to be abandoned came to its end");
  } catch (const Abandoned&) {
  }
}

std::vector<Draw> accepted(const std::vector<Draw>& draws) {
  std::map<std::uint32_t, std::uint32_t> last;
  for (const Draw& draw : draws) last[draw.scope] = draw.repetition;
  std::vector<Draw> kept;
  std::copy_if(draws.begin(), draws.end(), std::back_inserter(kept),
               [&last](const Draw& draw) { return draw.repetition == last[draw.scope]; });
  return kept;
}

class Statistics {
 public:
  void add(const Record& record) {
    const std::vector<Draw> kept = accepted(record.draws);
    count("draws", record.draws.size());
    count("accepted", kept.size());
    count("controlled",
          static_cast<std::size_t>(std::count_if(kept.begin(), kept.end(), [](const Draw& d) { return d.control; })));
    count("scopes", record.draws.empty()
                        ? 0
                        : std::max_element(record.draws.begin(), record.draws.end(), [](const Draw& a, const Draw& b) {
                            return a.scope < b.scope;
                          })->scope);
    std::map<std::string, int> instances;
    std::string type;
    for (const Draw& draw : kept) {
      bases_.insert(draw.base);
      const std::string address = draw.base + "__" + std::to_string(++instances[draw.base]);
      addresses_.insert(address);
      if (draw.control) type += address;
      if (draw.control) controlled_.insert(address);
    }
    types_.insert(type);
    for (std::size_t i = 0; i < kept.size(); ++i) {
      const bool last = i + 1 == kept.size() || kept[i + 1].scope != kept[i].scope;
      if (kept[i].scope != 0 && last && !is_test(kept[i])) ++untested_;
    }
    for (std::size_t i = 1; i < record.draws.size(); ++i) {
      const Draw& before = record.draws[i - 1];
      const Draw& now = record.draws[i];
      // Judged by their stacks alone, these would be two repetitions of one loop.
      if (before.scope != 0 && now.scope > before.scope && call_site(before) == call_site(now)) ++adjacent_;
    }
  }

  void print(std::ostream& out) const {
    out << "{\"events\": " << types_.size();
    for (const auto& [name, values] : sizes_) {
      const double mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
      out << ", \"" << name << "_mean\": " << mean << ", \"" << name
          << "_max\": " << *std::max_element(values.begin(), values.end());
    }
    out << ", \"base_addresses\": " << bases_.size() << ", \"addresses\": " << addresses_.size()
        << ", \"controlled_addresses\": " << controlled_.size()
        << ", \"trace_types\": " << std::set<std::string>(types_.begin(), types_.end()).size()
        << ", \"adjacent_scopes\": " << adjacent_ << ", \"untested_scopes\": " << untested_ << "}\n";
  }

 private:
  void count(const std::string& name, std::size_t size) { sizes_[name].push_back(size); }

  // The acceptance test is drawn by the loop itself: it is the innermost frame.
  static bool is_test(const Draw& draw) {
    return draw.base.find(loop_function, draw.base.rfind("; ")) != std::string::npos;
  }

  static std::string call_site(const Draw& draw) { return draw.base.substr(0, draw.base.find(loop_function)); }

  static constexpr const char* loop_function = "PHASIC::Decay_Channel::GenerateKinematics";

  std::map<std::string, std::vector<std::size_t>> sizes_;
  std::set<std::string> bases_, addresses_, controlled_;
  std::multiset<std::string> types_;
  std::size_t adjacent_ = 0;  // consecutive scopes from one call site without a draw in between
  std::size_t untested_ = 0;  // scopes that ended by raising the maximum, without a test
};

void replay_all(sherpa_tau::TauDecay& model, const std::vector<Record>& records, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::size_t> order(records.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::shuffle(order.begin(), order.end(), random);
  for (const std::size_t i : order) {
    const Record& record = records[i];
    const std::string which = "event " + std::to_string(i);
    if (random() % 8 == 0) abandon(model, seed + i, random() % record.draws.size());
    const Record full = run(model, 77, &record.draws);
    check(full.outcome == record.outcome, which + ": replay of all draws gives another outcome");
    check(full.draws.size() == record.draws.size(), which + ": replay of all draws draws another number");

    const std::vector<Draw> kept = accepted(record.draws);
    const Record collapsed = run(model, 78, &kept);
    check(collapsed.outcome == record.outcome, which + ": replay of the accepted draws gives another outcome");
    check(collapsed.draws.size() == kept.size(), which + ": replay of the accepted draws draws another number");
    check(std::all_of(collapsed.draws.begin(), collapsed.draws.end(), [](const Draw& d) { return d.repetition == 0; }),
          which + ": a scope asked for a second repetition");
  }
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 4) {
    std::cerr << "usage: sherpa_tau_replay_test CONFIG EVENTS SEED\n";
    return 2;
  }
  const sherpa_tau::RunConfig config = sherpa_tau::read_config(argv[1]);
  ppx::set_sites(ppx::SiteTable::load(config.sites.string()));
  sherpa_tau::TauDecay model(config);
  const std::uint64_t seed = std::stoull(argv[3]);
  std::vector<Record> records(std::stoull(argv[2]));
  Statistics statistics;
  for (std::size_t i = 0; i < records.size(); ++i) {
    records[i] = run(model, seed + i);
    statistics.add(records[i]);
    // Only some events are kept for the replay, because each takes 200 kB.
    if (i >= 2000) records[i] = {};
  }
  records.resize(std::min<std::size_t>(records.size(), 2000));
  statistics.print(std::cout);
  replay_all(model, records, seed);
  return sherpa_tau::tests::failures() > 0 ? 1 : 0;
} catch (const std::exception& error) {
  std::cerr << "FAILED: " << error.what() << '\n';
  return 1;
}
