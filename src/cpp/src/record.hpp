// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// The runs of one message, in the layouts of the schema's structs, so that they are sent without conversion.
#ifndef PPX_SRC_RECORD_HPP
#define PPX_SRC_RECORD_HPP

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ppx/ppx.hpp"

namespace ppx::detail {

/// Flags of an entry, as in etalumis.trace: the first two are part of its key, the third is a detail.
namespace entry_flag {
constexpr std::uint32_t controlled = 1;
constexpr std::uint32_t replaced = 2;
constexpr std::uint32_t rejected = 4;
}  // namespace entry_flag

namespace observe_flag {
constexpr std::uint32_t scored = 1;
constexpr std::uint32_t value = 2;
constexpr std::uint32_t parameters = 4;
constexpr std::uint32_t misfit = 8;
}  // namespace observe_flag

namespace trace_flag {
constexpr std::uint32_t lost = 1;
constexpr std::uint32_t mismatch = 2;
constexpr std::uint32_t diverged = 4;  // an entry differed from its proposed row, or a row was not used
constexpr std::uint32_t repeated = 8;  // a scope with proposed rows, all of them used, began another repetition
}  // namespace trace_flag

namespace step_flag {
constexpr std::uint32_t run = 1;
constexpr std::uint32_t accepted = 2;
constexpr std::uint32_t lost = 4;
constexpr std::uint32_t tail = 8;
constexpr std::uint32_t nothing = 16;
constexpr std::uint32_t broken = 32;
}  // namespace step_flag

struct EntryRecord {
  double value;
  std::uint32_t address;
  std::uint32_t distribution;
};

struct DetailRecord {
  double log_prob;
  std::uint64_t support;
  std::uint32_t scope;
  std::uint32_t repetition;
  std::int32_t row;
  std::uint32_t flags;
};

struct ArrayRecord {
  std::uint64_t start;
  std::uint64_t index_start;
  std::uint32_t count;
  std::uint32_t shape_start;
  std::uint32_t rank;
  std::uint32_t sparse;
};

struct TagRecord {
  std::uint32_t name;
  std::uint32_t array;
};

struct ObserveRecord {
  double log_prob;
  std::uint32_t name;
  std::uint32_t address;
  std::uint32_t kind;
  std::uint32_t flags;
  std::uint32_t arrays;
  std::uint32_t padding;
};

struct TraceRecord {
  std::uint64_t seed;
  std::uint64_t draws;
  std::uint32_t entries;
  std::uint32_t observes;
  std::uint32_t tags;
  std::int32_t result;
  std::uint32_t flags;
  std::uint32_t padding;
  double log_prior;
  double log_ratio;
};

struct StepRecord {
  std::int32_t position;
  std::uint32_t flags;
};

struct Record {
  std::vector<TraceRecord> traces;
  std::vector<EntryRecord> entries;
  std::vector<DetailRecord> details;  // one per entry, or none
  std::vector<ObserveRecord> observes;
  std::vector<TagRecord> tags;
  std::vector<ArrayRecord> arrays;
  std::vector<double> data;
  std::vector<std::uint32_t> index;
  std::vector<std::int32_t> shape;
  std::vector<StepRecord> steps;

  void clear();

  /// Approximate size of a message with all of it.
  std::size_t bytes() const;

  /// Sizes of all vectors but `steps`.
  struct Mark {
    std::size_t traces, entries, details, observes, tags, arrays, data, index, shape;
  };
  Mark mark() const;
  /// Removes everything that was added after `mark`.
  void rewind(const Mark& mark);

  /// Appends an array and returns its number; large arrays with mostly zeros are stored as sparse arrays.
  std::uint32_t add(const Tensor& tensor);
};

}  // namespace ppx::detail

#endif
