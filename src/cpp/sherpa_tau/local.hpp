// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: GPL-3.0-or-later

#ifndef ETALUMIS_SHERPA_TAU_LOCAL_HPP
#define ETALUMIS_SHERPA_TAU_LOCAL_HPP

#include <cstdint>
#include <ostream>

#include "model.hpp"

namespace sherpa_tau {

// Runs events with the seeds seed, seed + 1, ... and writes one JSON object a line: the tags, the number of draws (all
// and accepted), of rejection scopes, of hit voxels, and the energy in the calorimeter in GeV.
void run_events(TauDecay& model, std::uint64_t events, std::uint64_t seed, std::ostream& out);

// One JSON object a line: index, probability, products and Sherpa's name of every channel that the draw "channel"
// chooses from.
void list_channels(TauDecay& model, std::ostream& out);

}  // namespace sherpa_tau

#endif
