// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include <exception>

#include "run.hpp"
#include "socket.hpp"

namespace ppx {
namespace {

using Clock = std::chrono::steady_clock;
using detail::Bytes;
using detail::MessageType;
using detail::Received;

/// Unwinds `forward` when its run is over for a reason that is nobody's error. Not a std::exception: simulators catch
/// those.
struct AbandonRun {};

class Server final : public detail::Peer {
 public:
  Server(Model& model, const ServeOptions& options) : model_(model), options_(options), socket_(options.endpoint) {
    if (options.on_bound) options.on_bound(socket_.endpoint());
  }

  void serve() {
    while (next_request()) {
      const Received received = detail::decode(socket_.request());
      if (received.type == MessageType::handshake) {
        answer_handshake();
      } else if (received.type == MessageType::run) {
        execute();
      } else {
        socket_.send(encoder_.reset());
      }
    }
  }

  double sample(const Event& event) override {
    require_running();
    return exchange(encoder_.sample(event), MessageType::sample_result).value;
  }

  void observe(const Event& event) override {
    require_running();
    exchange(encoder_.observe(event), MessageType::observe_result);
  }

  void tag(const Event& event) override {
    require_running();
    exchange(encoder_.tag(event), MessageType::tag_result);
  }

 private:
  /// How the run under way ends, seen from the wire. All but `running` mean: nothing more is sent for it.
  enum class State { running, answer_handshake, answer_reset, leave };

  /// False: told to stop, or idle for too long.
  bool next_request() {
    // The stop flag may be set between its test and the wait, hence a short wait.
    constexpr std::chrono::milliseconds poll_interval{100};
    const auto started = Clock::now();
    for (;;) {
      if (options_.stop != nullptr && *options_.stop != 0) return false;
      if (socket_.receive(poll_interval)) return true;
      if (options_.idle_timeout.count() > 0 && Clock::now() - started >= options_.idle_timeout) return false;
    }
  }

  void answer_handshake() { socket_.send(encoder_.handshake_result(options_.system_name, model_.name())); }

  void execute() {
    state_ = State::running;
    const Tensor result = forward();
    switch (state_) {
      case State::running:
        socket_.send(encoder_.run_result(result));
        break;
      case State::answer_handshake:
        answer_handshake();
        break;
      case State::answer_reset:
        socket_.send(encoder_.reset());
        break;
      case State::leave:
        break;
    }
  }

  /// Whatever leaves `forward` once the run is abandoned is our own signal, or what the simulator made of it.
  Tensor forward() {
    detail::Run run(*this);
    try {
      return run.forward(model_);
    } catch (const AbandonRun&) {
      return {};
    } catch (const std::exception& error) {
      if (state_ == State::running) fail(run, error.what());
    } catch (...) {
      if (state_ == State::running) fail(run, "something that is no std::exception");
    }
    return {};
  }

  [[noreturn]] void fail(const detail::Run& run, const std::string& what) const {
    std::throw_with_nested(ModelError("ppx: the model `" + model_.name() + "` threw: " + what +
                                      "; its last statement was at " + std::string(run.last_address())));
  }

  /// A simulator that swallowed the signal goes on: tell it again, without a word on the wire.
  void require_running() const {
    if (state_ != State::running) throw AbandonRun{};
  }

  Received exchange(Bytes statement, MessageType expected) {
    socket_.send(statement);
    if (!next_request()) abandon(State::leave);
    Received received = detail::decode(socket_.request());
    if (received.type == expected && received.error.empty()) return received;
    if (received.type == MessageType::handshake) abandon(State::answer_handshake);
    state_ = State::answer_reset;
    if (received.type == MessageType::reset) throw AbandonRun{};
    throw ProtocolError("ppx: expected " + std::string(detail::message_name(expected)) + ", found " +
                        std::string(detail::message_name(received.type)) +
                        (received.error.empty() ? "" : " (" + received.error + ")") + "; the run is abandoned");
  }

  [[noreturn]] void abandon(State state) {
    state_ = state;
    throw AbandonRun{};
  }

  Model& model_;
  const ServeOptions& options_;
  detail::ReplySocket socket_;
  detail::Encoder encoder_;
  State state_ = State::running;
};

}  // namespace

void serve(Model& model, const ServeOptions& options) { Server(model, options).serve(); }

}  // namespace ppx
