// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// A hundred draws from several call sites at several depths, for measuring the cost of a draw: the sum of 100 uniforms
// is observed with a normal.
#include "program.hpp"

double shallow() { return ppx::sample(ppx::Uniform{0.0, 1.0}); }

double deep(int levels) {
  // The addition after the call prevents a tail call, which would remove the frame.
  return levels == 0 ? ppx::sample(ppx::Uniform{0.0, 1.0}) : 0.0 + 1.0 * deep(levels - 1);
}

double pair_of_draws() {
  const double first = ppx::sample(ppx::Uniform{-0.5, 0.5});
  return first + ppx::sample(ppx::Uniform{0.5, 1.5});
}

class Hundred final : public ppx::Model {
 public:
  std::string name() const override { return "hundred"; }
  ppx::Tensor forward() override;
};

ppx::Tensor Hundred::forward() {
  double sum = 0.0;
  for (int block = 0; block < 10; ++block) {  // ten draws per block
    sum += shallow() + shallow() + deep(2) + deep(5);
    sum += pair_of_draws() + pair_of_draws() + pair_of_draws();
  }
  ppx::observe(ppx::Normal{sum, 1.0}, "sum");
  return sum;
}

int main(int argc, char** argv) {
  return run_program(argc, argv, "A hundred uniform draws from several call sites; observes their sum with N(sum, 1).",
                     {}, [](const Arguments&) { return std::make_unique<Hundred>(); });
}
