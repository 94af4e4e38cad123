// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// A model made of a function, and a record of its local run.
#ifndef PPX_TESTS_RECORD_HPP
#define PPX_TESTS_RECORD_HPP

#include <functional>
#include <string>
#include <vector>

#include "ppx/ppx.hpp"

struct Recorded {
  ppx::Event::Kind kind;
  std::string address;
  std::string name;
  double value;
  bool control, replace;
  std::uint32_t scope, repetition;
};

class FunctionModel final : public ppx::Model {
 public:
  explicit FunctionModel(std::function<ppx::Tensor()> function) : function_(std::move(function)) {}
  std::string name() const override { return "function"; }
  ppx::Tensor forward() override { return function_(); }

 private:
  std::function<ppx::Tensor()> function_;
};

inline std::vector<Recorded> record(ppx::Model& model, std::uint64_t seed = 0, const ppx::Steer& steer = {}) {
  std::vector<Recorded> records;
  const auto sink = [&records](const ppx::Event& e) {
    records.push_back({e.kind, std::string(e.address), std::string(e.name),
                       e.value->data.empty() ? 0.0 : e.value->data[0], e.control, e.replace, e.scope, e.repetition});
  };
  ppx::run_local(model, seed, sink, steer);
  return records;
}

inline std::vector<Recorded> record(const std::function<ppx::Tensor()>& function, std::uint64_t seed = 0,
                                    const ppx::Steer& steer = {}) {
  FunctionModel model(function);
  return record(model, seed, steer);
}

#endif
