// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Seeded random numbers that do not depend on the standard library: <random> specifies its engines, but not its
// distributions, and a local run must give the same trace on every platform.
#ifndef PPX_SRC_RANDOM_HPP
#define PPX_SRC_RANDOM_HPP

#include <array>
#include <cstdint>

namespace ppx::detail {

/// xoshiro256++ (Blackman and Vigna, 2019), seeded by splitmix64.
class Generator {
 public:
  explicit Generator(std::uint64_t seed);
  std::uint64_t next();
  /// Uniform on [0, 1), 53 bits.
  double uniform();
  /// Uniform on (0, 1): log(u) and log(1 - u) are finite.
  double open_uniform();

 private:
  std::array<std::uint64_t, 4> state_;
};

}  // namespace ppx::detail

#endif
