// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: GPL-3.0-or-later

#ifndef ETALUMIS_SHERPA_TAU_STEERING_HPP
#define ETALUMIS_SHERPA_TAU_STEERING_HPP

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace PHASIC {
class Decay_Table;
}

namespace sherpa_tau::steering {

// Name of the random number generator in Sherpa's setting EXTERNAL_RNG.
inline constexpr const char* generator_name = "Etalumis_RNG";

// Resets what Sherpa keeps from one event to the next (raised maxima of decay channels), so that an event depends only
// on its own draws. `decayer` is the PDG number of the particle whose channel is the latent named "channel".
void begin_event(long decayer);

// Rethrows the exception thrown by a draw of this event, if any. Sherpa has finished the event regardless.
void rethrow_failure();

// Index, among the open channels of the decayer's table, of the channel chosen last in this event.
std::optional<std::size_t> chosen_channel();

// A decay channel that is kinematically open and active.
struct OpenChannel {
  std::string name;  // e.g. "tau- --> nu_tau e- nu_eb", in Sherpa's spelling
  double probability = 0.0;
  std::vector<long> products;  // PDG numbers
};

// The channels among which the draw "channel" chooses, in the order of its index. Empty before the first event.
std::vector<OpenChannel> open_channels();

// The table from which the channel of the decayer was chosen last, or null.
PHASIC::Decay_Table* decayer_table();

}  // namespace sherpa_tau::steering

#endif
