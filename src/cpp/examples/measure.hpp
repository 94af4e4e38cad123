// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Measures the runs per second of a model without protocol, in one process, with a record of addresses and values: the
// reference for delegated runs in `etalumis bench ppx`.
#ifndef PPX_EXAMPLES_MEASURE_HPP
#define PPX_EXAMPLES_MEASURE_HPP

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ppx/ppx.hpp"

/// Records (number of the address, value) of every draw of a run, and the addresses by number. A draw needs no copy of
/// its address, and no hash if the address is known at the same location in memory.
class AddressRecorder {
 public:
  struct Entry {
    std::uint32_t address;
    double value;
  };

  void begin() { entries_.clear(); }

  void see(const ppx::Event& event) {
    if (event.kind == ppx::Event::Kind::sample) entries_.push_back({number(event.address), event.value->data[0]});
  }

  const std::vector<Entry>& entries() const { return entries_; }
  std::size_t addresses() const { return numbers_.size(); }

 private:
  struct Slot {
    std::string_view known;  // key in numbers_
    const char* seen_at = nullptr;
    std::uint32_t number = 0;
  };

  std::uint32_t number(std::string_view address) {
    constexpr std::uint64_t golden = 0x9e3779b97f4a7c15U;
    Slot& slot = slots_[reinterpret_cast<std::uintptr_t>(address.data()) * golden >> (64U - slot_bits)];
    // Compared, because a view is valid only during the call: another text may be there the next time.
    if (slot.seen_at == address.data() && slot.known == address) return slot.number;
    const auto [found, fresh] = numbers_.try_emplace(std::string(address), static_cast<std::uint32_t>(numbers_.size()));
    slot = {found->first, address.data(), found->second};
    return found->second;
  }

  static constexpr unsigned slot_bits = 10;
  std::array<Slot, std::size_t{1} << slot_bits> slots_;
  std::unordered_map<std::string, std::uint32_t> numbers_;
  std::vector<Entry> entries_;
};

/// Runs the model for `seconds` with the seeds `seed`, `seed` + 1, ..., and writes one line of JSON.
inline void measure_local(ppx::Model& model, double seconds, std::uint64_t seed, std::ostream& out) {
  using Clock = std::chrono::steady_clock;
  AddressRecorder recorder;
  const ppx::Sink sink = [&recorder](const ppx::Event& event) { recorder.see(event); };
  ppx::run_local(model, seed, sink);  // names the addresses, which is not part of the measurement
  std::uint64_t runs = 0;
  std::uint64_t draws = 0;
  std::chrono::duration<double> time{0.0};
  const auto start = Clock::now();
  while (runs == 0 || time.count() < seconds) {
    recorder.begin();
    ppx::run_local(model, seed + runs, sink);
    draws += recorder.entries().size();
    ++runs;
    time = Clock::now() - start;
  }
  out << "{\"runs\": " << runs << ", \"draws\": " << draws << ", \"addresses\": " << recorder.addresses()
      << ", \"seconds\": " << time.count() << "}\n";
}

#endif
