// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include <unistd.h>

#include <atomic>
#include <exception>

#include "chain.hpp"
#include "delegate.hpp"
#include "run.hpp"
#include "socket.hpp"

namespace ppx {
namespace {

using Clock = std::chrono::steady_clock;
using detail::AbandonRun;
using detail::Answer;
using detail::Bytes;
using detail::MessageType;
using detail::Received;
using detail::RunMode;
using detail::RunRequest;
using detail::Site;

/// State that both sides share since the handshake.
struct Session {
  std::uint64_t number;
  detail::Tables tables;
  detail::Observations observations;
  std::uint64_t sites_version = 0;
};

/// Unique for every handshake of every process, so that a client notices if the simulator now serves another one.
std::uint64_t new_session_number() {
  static std::atomic<std::uint64_t> count{0};
  const auto now = static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
  detail::Generator generator(now ^ static_cast<std::uint64_t>(getpid()) << 40U ^ ++count << 56U);
  return generator.next() | 1U;  // 0 means none
}

/// From this size on, copying a message costs more than a new buffer.
constexpr std::size_t zero_copy_bytes = std::size_t{64} << 10U;

/// The inference side accepts messages of up to 1 GiB, including texts, addresses and priors.
constexpr std::size_t max_answer_bytes = std::size_t{1000} << 20U;

class Server final : public detail::Peer, public detail::Asker {
 public:
  Server(Model& model, const ServeOptions& options) : model_(model), options_(options), socket_(options.endpoint) {
    if (options.on_bound) options.on_bound(socket_.endpoint());
  }

  void serve() {
    while (next_request()) {
      const Received received = detail::decode(socket_.request());
      if (received.type == MessageType::handshake) {
        answer_handshake(received.offer);
      } else if (received.type == MessageType::run && received.request == nullptr && received.error.empty()) {
        execute();
      } else if (received.type == MessageType::run && received.error.empty() && accept(*received.request)) {
        execute(*received.request);
      } else {
        // The terms of a refused run are not stored, so the numbers of both sides differ from here on.
        const bool is_current = is_of_this_session(received);
        if (is_current) session_.reset();
        const bool has_unknown_numbers = is_current && received.error.empty();
        socket_.send(encoder_.reset(has_unknown_numbers ? "a Run with unknown numbers" : received.error));
      }
    }
  }

  // A run of PPX 1.0: every statement is a message.

  double sample(const Event& event, const Site& /*site*/) override {
    require_running();
    const Received received = exchange(encoder_.sample(event), MessageType::sample_result);
    if (!received.has_value) refuse("a SampleResult without a value, outside an assisted run");
    return received.value;
  }

  void observe(const Event& event, const Site& /*site*/) override {
    require_running();
    exchange(encoder_.observe(event), MessageType::observe_result);
  }

  void tag(const Event& event, const Site& /*site*/) override {
    require_running();
    exchange(encoder_.tag(event), MessageType::tag_result);
  }

  // A controlled draw of an assisted run.
  Answer ask(const Event& event, std::uint32_t instance) override {
    require_running();
    const Received received = exchange(encoder_.sample(event, instance), MessageType::sample_result);
    Answer answer;
    if (received.has_value) answer.value = received.value;
    answer.hand_over = received.hand_over;
    return answer;
  }

 private:
  /// How the current run ends. In all states but `running`, the model sends no further messages.
  enum class State { running, answer_handshake, answer_reset, leave };

  /// False if stopped, or idle for too long.
  bool next_request() {
    // The stop flag may be set between its check and the wait, so the wait is short.
    constexpr std::chrono::milliseconds poll_interval{100};
    const auto started = Clock::now();
    for (;;) {
      if (stop_requested()) return false;
      if (socket_.receive(poll_interval)) return true;
      if (options_.idle_timeout.count() > 0 && Clock::now() - started >= options_.idle_timeout) return false;
    }
  }

  bool stop_requested() const { return options_.stop != nullptr && *options_.stop != 0; }

  void answer_handshake(const detail::Offer& offer) {
    session_.reset();
    known_distributions_ = offer.distributions;
    if (offer.delegation >= detail::delegation_version) {
      session_ = std::make_unique<Session>();
      session_->number = new_session_number();
      session_->sites_version = detail::current_sites().version;
    }
    const std::uint64_t number = session_ != nullptr ? session_->number : 0;
    socket_.send(encoder_.handshake_result(options_.system_name, model_.name(), number));
  }

  bool is_of_this_session(const Received& received) const {
    return session_ != nullptr && received.request != nullptr && received.request->session == session_->number;
  }

  /// Stores the terms and observations of a delegated run; false if it does not belong to this session.
  bool accept(RunRequest& request) {
    if (session_ == nullptr || request.session != session_->number) return false;
    detail::Tables& tables = session_->tables;
    bool in_order = true;
    for (const std::string& text : request.texts) in_order = tables.learn_text(text) && in_order;
    for (const detail::AddressKey key : request.addresses) in_order = tables.learn_address(key) && in_order;
    for (const detail::EntryRecord& row : request.rows) in_order = in_order && row.address < tables.address_count();
    tables.sent();  // both sides know these
    if (request.observations) session_->observations = std::move(*request.observations);
    if (!in_order) session_.reset();
    return in_order;
  }

  /// A new site table, which the model may also set during a run, changes the numbers of call sites.
  void follow_sites() {
    const auto version = detail::current_sites().version;
    if (version == session_->sites_version) return;
    session_->sites_version = version;
    session_->tables.forget_sites();
  }

  void execute() {
    state_ = State::running;
    const Tensor result = forward(*this);
    finish([&] { return encoder_.run_result(result); });
  }

  void execute(const RunRequest& request) {
    state_ = State::running;
    record_.clear();
    if (request.chain) {
      if (!execute_chain(request)) return;
      finish_traces();
      return;
    }
    Asker* const asker = request.mode == RunMode::assisted ? this : nullptr;
    detail::Delegate delegate(session_->tables, record_, session_->observations, request, asker);
    for (const std::uint64_t seed : request.seeds) {
      if (stop_requested()) return;
      follow_sites();
      delegate.begin(seed);
      const Tensor result = forward(delegate);
      if (state_ != State::running) break;
      delegate.end(result);
      if (record_.bytes() > max_answer_bytes) break;
    }
    finish_traces();
  }

  /// False if stopped.
  bool execute_chain(const RunRequest& request) {
    detail::Chain chain(session_->tables, record_, request);
    while (chain.next()) {
      if (stop_requested()) return false;
      follow_sites();
      detail::Delegate delegate(session_->tables, record_, session_->observations, chain.request(), nullptr);
      delegate.begin(chain.seed());
      const Tensor result = forward(delegate);
      delegate.end(result);
      chain.take();
      if (record_.bytes() > max_answer_bytes) break;
    }
    return true;
  }

  void finish_traces() {
    if (state_ == State::running && record_.bytes() > max_answer_bytes) {
      session_.reset();  // its tables have terms that were not sent
      socket_.send(encoder_.reset("the traces of these runs exceed " + std::to_string(max_answer_bytes >> 20U) +
                                  " MiB, the limit of a message: request fewer runs at a time"));
      return;
    }
    const bool whole = state_ == State::running;
    finish([&] { return encoder_.traces(session_->number, record_, session_->tables.news()); }, true);
    if (!whole && state_ != State::answer_handshake) session_.reset();  // its tables have terms that were not sent
    if (whole) session_->tables.sent();
  }

  template <typename Answer>
  void finish(const Answer& answer, bool is_large = false) {
    switch (state_) {
      case State::running:
        if (const Bytes bytes = answer(); is_large && bytes.size >= zero_copy_bytes) {
          socket_.send(bytes, encoder_.keeper());
        } else {
          socket_.send(bytes);
        }
        break;
      case State::answer_handshake:
        answer_handshake(next_offer_);
        break;
      case State::answer_reset:
        socket_.send(encoder_.reset());
        break;
      case State::leave:
        break;
    }
  }

  /// After the run is abandoned, any exception is AbandonRun, or the simulator converted it into another one.
  Tensor forward(detail::Peer& peer) {
    const auto* const delegate = dynamic_cast<const detail::Delegate*>(&peer);
    const auto is_over = [&] { return state_ != State::running || (delegate != nullptr && delegate->over()); };
    detail::Run run(peer, known_distributions_);
    try {
      return run.forward(model_);
    } catch (const AbandonRun&) {
      return {};
    } catch (const std::exception& error) {
      if (!is_over()) fail(run, error.what());
    } catch (...) {
      if (!is_over()) fail(run, "an exception that is not a std::exception");
    }
    return {};
  }

  [[noreturn]] void fail(const detail::Run& run, const std::string& what) const {
    std::throw_with_nested(ModelError("ppx: the model `" + model_.name() + "` threw: " + what +
                                      "; its last statement was at " + std::string(run.last_address())));
  }

  /// A simulator that caught AbandonRun continues: throw it again, and send nothing.
  void require_running() const {
    if (state_ != State::running) throw AbandonRun{};
  }

  Received exchange(Bytes statement, MessageType expected) {
    const std::string partner = socket_.sender();
    socket_.send(statement);
    if (!next_request()) abandon(State::leave);
    Received received = detail::decode(socket_.request());
    // Another client may take over with a Handshake, since the first one may have died; its other messages are refused.
    while (socket_.sender() != partner && received.type != MessageType::handshake) {
      socket_.send(encoder_.reset());
      if (!next_request()) abandon(State::leave);
      received = detail::decode(socket_.request());
    }
    if (received.type == expected && received.error.empty()) return received;
    if (received.type == MessageType::handshake) {
      next_offer_ = received.offer;
      abandon(State::answer_handshake);
    }
    if (received.type == MessageType::reset) abandon(State::answer_reset);
    refuse("expected " + std::string(detail::message_name(expected)) + ", found " +
           std::string(detail::message_name(received.type)) +
           (received.error.empty() ? "" : " (" + received.error + ")"));
  }

  [[noreturn]] void refuse(const std::string& what) {
    state_ = State::answer_reset;
    throw ProtocolError("ppx: " + what + "; the run is abandoned");
  }

  [[noreturn]] void abandon(State state) {
    state_ = state;
    throw AbandonRun{};
  }

  Model& model_;
  const ServeOptions& options_;
  detail::ReplySocket socket_;
  detail::Encoder encoder_;
  std::unique_ptr<Session> session_;
  detail::Record record_;
  State state_ = State::running;
  std::uint32_t known_distributions_ = detail::distributions_of_ppx_1_0;
  detail::Offer next_offer_;  // of the Handshake that ended a run
};

}  // namespace

void serve(Model& model, const ServeOptions& options) { Server(model, options).serve(); }

}  // namespace ppx
