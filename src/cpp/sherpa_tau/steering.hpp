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

// The random number generator's name in Sherpa's setting EXTERNAL_RNG.
inline constexpr const char* generator_name = "Etalumis_RNG";

// Puts back what Sherpa carries from one event to the next: maxima of decay channels it had to raise, so that an event
// depends on its own draws alone. `decayer` is the PDG number whose channel is the latent named "channel".
void begin_event(long decayer);

// Ends the run with the exception that a draw of this event met, if any did: Sherpa finished the event without knowing.
void rethrow_failure();

// Index, among the open channels of the decayer's table, of the last one chosen in this event.
std::optional<std::size_t> chosen_channel();

// A way the decayer can go.
struct OpenChannel {
  std::string name;  // e.g. "tau- --> nu_tau e- nu_eb", in Sherpa's spelling
  double probability = 0.0;
  std::vector<long> products;  // PDG numbers
};

// The channels that the draw "channel" chooses from, in the order of its index. Known once an event was generated.
std::vector<OpenChannel> open_channels();

// The table that the last choice of this event's decayer was made from, or null.
PHASIC::Decay_Table* decayer_table();

}  // namespace sherpa_tau::steering

#endif
