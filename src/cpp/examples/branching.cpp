// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// A discrete model whose latents depend on a branch: r ~ Poisson(4); if r > 4 then l = 6, else
// l = 1 + {1, 2, 8, 34, 144}[r] + s with s ~ Poisson(4); obs ~ Poisson(l). For obs = 6: P(r = 0..8) = .030375 .122793
// .04404 0 0 .338049 .225366 .12878 .06439, mean 5.112284, log evidence -2.600149.
#include <array>
#include <cstddef>

#include "program.hpp"

class Branching final : public ppx::Model {
 public:
  std::string name() const override { return "branching"; }
  ppx::Tensor forward() override;
};

/// Every third Fibonacci number: 1, 2, 8, 34, 144 for r = 0..4.
double spread(double r) {
  static constexpr std::array<double, 5> values = {1.0, 2.0, 8.0, 34.0, 144.0};
  return values.at(static_cast<std::size_t>(r));
}

ppx::Tensor Branching::forward() {
  const double r = ppx::sample(ppx::Poisson{4.0}, true, "r");
  const double l = r > 4.0 ? 6.0 : 1.0 + spread(r) + ppx::sample(ppx::Poisson{4.0}, true, "s");
  ppx::observe(ppx::Poisson{l}, "obs");
  ppx::tag("r", r);
  return r;
}

int main(int argc, char** argv) {
  return run_program(argc, argv, "Branching: r ~ Poisson(4) decides whether a second Poisson is drawn; observes obs.",
                     {}, [](const Arguments&) { return std::make_unique<Branching>(); });
}
