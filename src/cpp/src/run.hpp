// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// One run of a model, which determines addresses and scopes; a peer supplies the values.
#ifndef PPX_SRC_RUN_HPP
#define PPX_SRC_RUN_HPP

#include <cstdint>
#include <optional>
#include <string_view>

#include "address_table.hpp"
#include "ppx/ppx.hpp"
#include "scope_tracker.hpp"

namespace ppx::detail {

/// Unwinds `forward` when a run ends without an error. Not a std::exception, because simulators may catch those.
struct AbandonRun {};

/// Handles the statements of a run: the inference side over a connection, or a local generator.
class Peer {
 public:
  Peer() = default;
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;
  virtual ~Peer() = default;
  /// The value of a draw; the event's value is null.
  virtual double sample(const Event& event, const Site& site) = 0;
  /// The event's value is null if the inference side supplies the observation.
  virtual void observe(const Event& event, const Site& site) = 0;
  virtual void tag(const Event& event, const Site& site) = 0;
};

/// The current run of a thread, while `forward` executes.
class Run {
 public:
  /// The inference side knows the first `known_distributions` of the union Distribution.
  explicit Run(Peer& peer, std::size_t known_distributions = std::variant_size_v<Distribution>);
  ~Run();
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  static Run* current();

  /// Calls the model. Addresses end at this frame.
  Tensor forward(Model& model);

  // `frame` is the frame address of the public function that was called: frames up to it belong to the front end.
  double sample(const Distribution& distribution, bool control, std::string_view name, const void* frame);
  Tensor sample_tensor(const Distribution& distribution, bool control, std::string_view name, const void* frame);
  void observe(const Distribution& distribution, std::string_view name, const Tensor* value, const void* frame);
  void tag(std::string_view name, const Tensor& value, const void* frame);

  std::uint64_t id() const { return id_; }
  ScopeTracker& scopes() { return scopes_; }
  std::string_view last_address() const { return site_ ? std::string_view(site_->address) : std::string_view("none"); }

 private:
  const Site& locate(const void* frame);
  void check_known(const Distribution& distribution) const;

  Peer& peer_;
  std::size_t known_distributions_;
  Run* previous_;
  std::uint64_t id_;
  const void* outer_ = nullptr;
  const Site* site_ = nullptr;
  ScopeTracker scopes_;
  Stack stack_;
};

}  // namespace ppx::detail

#endif
