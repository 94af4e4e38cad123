// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include "draw.hpp"
#include "run.hpp"

namespace ppx {
namespace {

/// Draws from the prior, samples observations, and passes all statements to a sink.
class LocalPeer final : public detail::Peer {
 public:
  LocalPeer(std::uint64_t seed, const Sink& sink, const Steer& steer)
      : generator_(seed), observations_(~seed), sink_(sink), steer_(steer), scratch_(0.0) {}

  double sample(const Event& event, const detail::Site& /*site*/) override {
    std::optional<double> value;
    if (steer_) value = steer_(event);
    if (!value) value = detail::draw_scalar(*event.distribution, generator_);
    scratch_.data[0] = *value;
    show(event, scratch_);
    return *value;
  }

  void observe(const Event& event, const detail::Site& /*site*/) override {
    if (event.value != nullptr) {
      show(event, *event.value);
    } else if (sink_) {
      show(event, detail::draw_tensor(*event.distribution, observations_));
    }
  }

  void tag(const Event& event, const detail::Site& /*site*/) override { show(event, *event.value); }

 private:
  void show(Event event, const Tensor& value) const {
    if (!sink_) return;
    event.value = &value;
    sink_(event);
  }

  detail::Generator generator_;
  detail::Generator observations_;  // separate: the draws must not depend on whether a sink needs observations
  const Sink& sink_;
  const Steer& steer_;
  Tensor scratch_;
};

}  // namespace

Tensor run_local(Model& model, std::uint64_t seed, const Sink& sink, const Steer& steer) {
  LocalPeer peer(seed, sink, steer);
  detail::Run run(peer);
  return run.forward(model);
}

}  // namespace ppx
