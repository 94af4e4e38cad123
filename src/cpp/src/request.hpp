// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Contents of a Run message for delegated or assisted runs.
#ifndef PPX_SRC_REQUEST_HPP
#define PPX_SRC_REQUEST_HPP

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ppx/ppx.hpp"
#include "record.hpp"
#include "tables.hpp"

namespace ppx::detail {

/// Observed values by name.
using Observations = std::map<std::string, Tensor, std::less<>>;

enum class RunMode : std::uint8_t { asked, delegated, assisted };

/// Steps of a Markov chain; see the schema.
struct ChainRequest {
  std::uint32_t count = 0;
  std::uint64_t first = 0;
  double beta = 1.0;
  double focus_share = 0.0;
  double fresh_share = 0.0;
  double tail_share = 0.0;
  double redraw_share = 0.0;
  std::vector<std::string> focus;
  bool focus_named = true;
};

struct RunRequest {
  RunMode mode = RunMode::asked;
  std::uint64_t session = 0;
  std::vector<std::uint64_t> seeds;
  std::vector<std::string> texts;
  std::vector<AddressKey> addresses;
  std::vector<EntryRecord> rows;
  std::vector<DetailRecord> row_details;
  std::uint32_t prefix = 0;
  std::optional<Observations> observations;
  bool score = true;
  bool parameters = false;
  std::uint32_t draw_below = 0;
  bool details = false;
  bool rejected = false;
  std::optional<ChainRequest> chain;
  bool proposed = false;
};

/// What the front end draws by itself after an answer in an assisted run.
enum class HandOver : std::uint8_t { none, scope, rest };

/// The answer of the inference side to a draw; without a value, the front end draws.
struct Answer {
  std::optional<double> value;
  HandOver hand_over = HandOver::none;
};

}  // namespace ppx::detail

#endif
