// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: GPL-3.0-or-later

#ifndef ETALUMIS_SHERPA_TAU_MODEL_HPP
#define ETALUMIS_SHERPA_TAU_MODEL_HPP

#include <optional>
#include <string>
#include <string_view>

#include "calorimeter.hpp"
#include "generator.hpp"
#include "ppx/ppx.hpp"
#include "run_config.hpp"

namespace sherpa_tau {

// A tau decays at rest in Sherpa (all of Sherpa's draws; the channel is a categorical draw named "channel"). It gets a
// momentum (three uniform draws "px", "py", "pz" in GeV), and the calorimeter observes its products (observation
// "calorimeter": a normal around the deposited energy of each voxel, in GeV). The momentum is drawn last because
// nothing in Sherpa depends on it: an engine that changes it need not redraw anything else.
//
// Tags: "visible_at_rest" {12} GeV, before the momentum is drawn: E, px, py, pz in the rest frame, summed over
// electromagnetic, hadronic and minimum ionising particles; "momentum" {3} GeV; "channel" scalar; "energies" {2} GeV,
// of the two particles of highest energy, neutrinos included (SC'19, Figure 8); "missing_et" scalar GeV, the transverse
// momentum of the sum of the neutrinos; "final_state" {n, 5}: PDG number, E, px, py, pz of the stable particles. The
// result is the channel.
class TauDecay : public ppx::Model {
 public:
  // Without the calorimeter nothing is observed; this measures the cost of the physics alone.
  explicit TauDecay(const RunConfig& config, bool calorimeter = true);

  std::string name() const override { return "sherpa_tau"; }
  ppx::Tensor forward() override;

 private:
  double draw(std::string_view name, const Range& range) const;

  RunConfig config_;
  std::optional<Calorimeter> calorimeter_;
  Generator generator_;
};

}  // namespace sherpa_tau

#endif
