// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// A simulator with a fault at a given draw, to test the error handling of inference sides.
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <set>
#include <stdexcept>
#include <thread>

#include "garbling_proxy.hpp"
#include "program.hpp"

constexpr std::uint64_t draws = 10;

class Misbehaving final : public ppx::Model {
 public:
  Misbehaving(std::string mode, std::uint64_t at_run, std::uint64_t at_draw, double below)
      : mode_(std::move(mode)), at_run_(at_run), at_draw_(at_draw), below_(below) {
    static const std::set<std::string> modes = {"none", "exit", "kill", "hang", "throw", "parameters", "garbage"};
    if (modes.count(mode_) == 0) throw std::invalid_argument("--mode: unknown mode `" + mode_ + "`");
  }
  std::string name() const override { return "misbehave"; }
  ppx::Tensor forward() override;

 private:
  void fault() const;

  std::string mode_;
  std::uint64_t at_run_;
  std::uint64_t at_draw_;
  double below_;  // > 0: runs in which the draw is below this value have the fault, instead of a given run
  std::uint64_t run_ = 0;
};

void Misbehaving::fault() const {
  if (mode_ == "exit") std::_Exit(3);
  if (mode_ == "kill") std::raise(SIGKILL);
  if (mode_ == "throw") throw std::runtime_error("misbehaving on purpose");
  if (mode_ == "parameters") ppx::sample(ppx::Normal{0.0, -1.0});
  while (mode_ == "hang") std::this_thread::sleep_for(std::chrono::seconds(1));
}

ppx::Tensor Misbehaving::forward() {
  double sum = 0.0;
  for (std::uint64_t draw = 0; draw < draws; ++draw) {
    if (below_ <= 0.0 && run_ == at_run_ && draw == at_draw_) fault();
    const double value = ppx::sample(ppx::Uniform{0.0, 1.0});
    if (draw == at_draw_ && value < below_) fault();
    sum += value;
  }
  ++run_;
  ppx::observe(ppx::Normal{sum, 1.0}, "sum");
  return sum;
}

int main(int argc, char** argv) {
  std::unique_ptr<GarblingProxy> proxy;  // outlives the model and its serving
  const auto make_model = [&proxy](Arguments& arguments) {
    const auto own = [&arguments](const std::string& name, const std::string& otherwise) {
      const auto found = arguments.own.find(name);
      return found == arguments.own.end() ? otherwise : found->second;
    };
    const std::string mode = own("mode", "none");
    const std::uint64_t at_run = std::stoull(own("at-run", "0"));
    const std::uint64_t at_draw = std::stoull(own("at-draw", "0"));
    auto model = std::make_unique<Misbehaving>(mode, at_run, at_draw, std::stod(own("below", "0")));
    if (mode == "garbage") {
      // The handshake is the first reply; a run is ten draws, an observation and its result.
      proxy = std::make_unique<GarblingProxy>(arguments.endpoint, 1 + at_run * (draws + 2) + at_draw);
      arguments.endpoint = proxy->backend();
    }
    return model;
  };
  return run_program(argc, argv, "Ten uniform draws, and a fault before a given one.",
                     {{"mode", {"MODE", "none, exit (code 3), kill, hang, throw, parameters or garbage"}},
                      {"at-run", {"K", "run with the fault, from 0 (default 0)"}},
                      {"at-draw", {"K", "draw with the fault, from 0 (default 0)"}},
                      {"below", {"X", "the fault is in all runs in which that draw is below X, not in run K"}}},
                     make_model);
}
