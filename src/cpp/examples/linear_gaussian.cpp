// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// A vector theta of three normals, of means 0, 1, -1 and standard deviations 1, 2, 0.5; obs0 ~ N(theta_0 + theta_1,
// 0.7), obs1 ~ N(theta_1 - theta_2, 0.7). The posterior is normal.
#include "program.hpp"

class LinearGaussian final : public ppx::Model {
 public:
  std::string name() const override { return "linear_gaussian"; }
  ppx::Tensor forward() override;
};

ppx::Tensor LinearGaussian::forward() {
  const ppx::Normal prior{{{0.0, 1.0, -1.0}, {3}}, {{1.0, 2.0, 0.5}, {3}}};
  const auto theta = ppx::sample_tensor(prior, true, "theta").data;
  ppx::observe(ppx::Normal{theta[0] + theta[1], 0.7}, "obs0");
  ppx::observe(ppx::Normal{theta[1] - theta[2], 0.7}, "obs1");
  return theta[0] + theta[1] + theta[2];
}

int main(int argc, char** argv) {
  return run_program(argc, argv, "A vector of three normals; obs0 and obs1 are sums of its elements with noise.", {},
                     [](const Arguments&) { return std::make_unique<LinearGaussian>(); });
}
