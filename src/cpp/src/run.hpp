// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// One run of a model: addresses and scopes here, values from a peer.
#ifndef PPX_SRC_RUN_HPP
#define PPX_SRC_RUN_HPP

#include <cstdint>
#include <optional>
#include <string_view>

#include "address_table.hpp"
#include "ppx/ppx.hpp"
#include "scope_tracker.hpp"

namespace ppx::detail {

/// Unwinds `forward` when its run is over for a reason that is nobody's error. Not a std::exception: simulators catch
/// those.
struct AbandonRun {};

/// Decides what a statement yields: the inference side over the wire, or a local generator.
class Peer {
 public:
  Peer() = default;
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;
  virtual ~Peer() = default;
  /// The value of a draw; the event's value is null.
  virtual double sample(const Event& event, const Site& site) = 0;
  /// The event's value is null when the observation is left to the inference side.
  virtual void observe(const Event& event, const Site& site) = 0;
  virtual void tag(const Event& event, const Site& site) = 0;
};

/// The thread's current run while `forward` executes.
class Run {
 public:
  explicit Run(Peer& peer);
  ~Run();
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  static Run* current();

  /// Calls the model; addresses are cut here.
  Tensor forward(Model& model);

  // `frame` is the frame address of the public function that was called: everything up to it is the front end's.
  double sample(const Distribution& distribution, bool control, std::string_view name, const void* frame);
  void observe(const Distribution& distribution, std::string_view name, const Tensor* value, const void* frame);
  void tag(std::string_view name, const Tensor& value, const void* frame);

  std::uint64_t id() const { return id_; }
  ScopeTracker& scopes() { return scopes_; }
  std::string_view last_address() const { return site_ ? std::string_view(site_->address) : std::string_view("none"); }

 private:
  const Site& locate(const void* frame);

  Peer& peer_;
  Run* previous_;
  std::uint64_t id_;
  const void* outer_ = nullptr;
  const Site* site_ = nullptr;
  ScopeTracker scopes_;
  Stack stack_;
};

}  // namespace ppx::detail

#endif
