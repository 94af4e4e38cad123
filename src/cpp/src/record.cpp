// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include "record.hpp"

#include <algorithm>

namespace ppx::detail {

void Record::clear() {
  traces.clear();
  entries.clear();
  details.clear();
  observes.clear();
  tags.clear();
  arrays.clear();
  data.clear();
  index.clear();
  shape.clear();
  steps.clear();
}

std::size_t Record::bytes() const {
  const auto of = [](const auto& column) { return column.size() * sizeof(column[0]); };
  return of(traces) + of(entries) + of(details) + of(observes) + of(tags) + of(arrays) + of(data) + of(index) +
         of(shape) + of(steps);
}

Record::Mark Record::mark() const {
  return {traces.size(), entries.size(), details.size(), observes.size(), tags.size(),
          arrays.size(), data.size(),    index.size(),   shape.size()};
}

void Record::rewind(const Mark& mark) {
  traces.resize(mark.traces);
  entries.resize(mark.entries);
  details.resize(mark.details);
  observes.resize(mark.observes);
  tags.resize(mark.tags);
  arrays.resize(mark.arrays);
  data.resize(mark.data);
  index.resize(mark.index);
  shape.resize(mark.shape);
}

std::uint32_t Record::add(const Tensor& tensor) {
  constexpr std::size_t min_sparse_size = 64;
  const std::size_t size = tensor.data.size();
  ArrayRecord array{data.size(),
                    index.size(),
                    0,
                    static_cast<std::uint32_t>(shape.size()),
                    static_cast<std::uint32_t>(tensor.shape.size()),
                    0};
  shape.insert(shape.end(), tensor.shape.begin(), tensor.shape.end());
  if (size >= min_sparse_size && !tensor.shape.empty()) {
    const auto zeros = static_cast<std::size_t>(std::count(tensor.data.begin(), tensor.data.end(), 0.0));
    array.sparse = zeros > size / 2 ? 1 : 0;
  }
  if (array.sparse != 0) {
    for (std::size_t i = 0; i < size; ++i) {
      if (tensor.data[i] == 0.0) continue;
      index.push_back(static_cast<std::uint32_t>(i));
      data.push_back(tensor.data[i]);
    }
  } else {
    data.insert(data.end(), tensor.data.begin(), tensor.data.end());
  }
  array.count = static_cast<std::uint32_t>(data.size() - array.start);
  arrays.push_back(array);
  return static_cast<std::uint32_t>(arrays.size()) - 1;
}

}  // namespace ppx::detail
