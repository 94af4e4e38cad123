// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// The simulator of docs/how-to-couple-your-own-simulator.md, which shows this text.
#include <algorithm>
#include <cmath>
#include <csignal>
#include <iostream>
#include <ppx/ppx.hpp>
#include <vector>

constexpr double loss_gev = 0.15;  // of a vertical muon in one layer
constexpr double noise_gev = 0.1;  // of one layer's reading

// Cosmic muons come from the zenith angle with the density cos^2: a rejection loop. Only its last repetition counts.
double zenith_angle() {
  ppx::RejectionScope scope;
  for (;;) {
    const double angle = ppx::sample(ppx::Uniform{0.0, 1.5}, true, "angle");
    const double test = ppx::sample(ppx::Uniform{0.0, 1.0}, true, "test");
    if (test < std::cos(angle) * std::cos(angle)) return angle;
    scope.repeat();
  }
}

struct Muon : ppx::Model {
  std::string name() const override { return "muon"; }

  ppx::Tensor forward() override {
    const double energy = ppx::sample(ppx::Uniform{0.2, 3.0}, true, "energy");  // GeV
    const double loss = loss_gev / std::cos(zenith_angle());                    // a slanted path is longer
    std::vector<double> deposits(8);
    for (std::size_t layer = 0; layer < deposits.size(); ++layer) {
      deposits[layer] = std::clamp(energy - static_cast<double>(layer) * loss, 0.0, loss);
    }
    ppx::tag("layers", energy / loss);  // number of layers that the energy suffices for
    ppx::observe(ppx::Normal{ppx::Tensor(deposits, {8}), noise_gev}, "deposits");
    return energy;
  }
};

volatile std::sig_atomic_t stop = 0;
extern "C" void request_stop(int) { stop = 1; }

int main(int argc, char** argv) {
  std::signal(SIGTERM, request_stop);
  std::signal(SIGINT, request_stop);
  Muon muon;
  ppx::ServeOptions options;
  options.endpoint = argc > 1 ? argv[1] : "tcp://127.0.0.1:5555";
  options.stop = &stop;
  try {
    ppx::serve(muon, options);
  } catch (const std::exception& error) {
    std::cerr << "muon: " << error.what() << '\n';
    return 1;
  }
}
