// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: GPL-3.0-or-later

#ifndef ETALUMIS_SHERPA_TAU_LOCAL_HPP
#define ETALUMIS_SHERPA_TAU_LOCAL_HPP

#include <cstdint>
#include <ostream>

#include "model.hpp"

namespace sherpa_tau {

// Runs events with the seeds seed, seed + 1, ... and writes one JSON object per line: the tags, the numbers of draws
// (all and accepted), rejection scopes and hit voxels, and the energy in the calorimeter in GeV.
void run_events(TauDecay& model, std::uint64_t events, std::uint64_t seed, std::ostream& out);

// Writes one JSON object per line: index, probability, products and Sherpa's name of every channel among which the draw
// "channel" chooses.
void list_channels(TauDecay& model, std::ostream& out);

}  // namespace sherpa_tau

#endif
