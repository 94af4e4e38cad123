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

/// What both sides of a connection have agreed on since its handshake.
struct Session {
  std::uint64_t number;
  detail::Tables tables;
  detail::Observations observations;
  std::uint64_t sites_version = 0;
};

/// Another number for every handshake of every process: a client whose simulator now serves another one must see it.
std::uint64_t new_session_number() {
  static std::atomic<std::uint64_t> count{0};
  const auto now = static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
  detail::Generator generator(now ^ static_cast<std::uint64_t>(getpid()) << 40U ^ ++count << 56U);
  return generator.next() | 1U;  // 0 means none
}

/// From this size on a copy of a message costs more than the buffer that takes the place of one on its way.
constexpr std::size_t worth_keeping = std::size_t{64} << 10U;

/// What the inference side takes in a message is 1 GiB; texts, addresses and priors need some of it.
constexpr std::size_t largest_answer = std::size_t{1000} << 20U;

class Server final : public detail::Peer, public detail::Asker {
 public:
  Server(Model& model, const ServeOptions& options) : model_(model), options_(options), socket_(options.endpoint) {
    if (options.on_bound) options.on_bound(socket_.endpoint());
  }

  void serve() {
    while (next_request()) {
      const Received received = detail::decode(socket_.request());
      if (received.type == MessageType::handshake) {
        answer_handshake(received.delegation);
      } else if (received.type == MessageType::run && received.request == nullptr && received.error.empty()) {
        execute();
      } else if (received.type == MessageType::run && received.error.empty() && accept(*received.request)) {
        execute(*received.request);
      } else {
        // What a refused run was to teach is not learnt: the two sides' numbers differ from here on.
        const bool ours = is_of_this_session(received);
        if (ours) session_.reset();
        const bool disordered = ours && received.error.empty();
        socket_.send(encoder_.reset(disordered ? "a Run whose numbers stand for nothing" : received.error));
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
  /// How the run under way ends, seen from the wire. All but `running` mean: nothing more is sent for it.
  enum class State { running, answer_handshake, answer_reset, leave };

  /// False: told to stop, or idle for too long.
  bool next_request() {
    // The stop flag may be set between its test and the wait, hence a short wait.
    constexpr std::chrono::milliseconds poll_interval{100};
    const auto started = Clock::now();
    for (;;) {
      if (told_to_stop()) return false;
      if (socket_.receive(poll_interval)) return true;
      if (options_.idle_timeout.count() > 0 && Clock::now() - started >= options_.idle_timeout) return false;
    }
  }

  bool told_to_stop() const { return options_.stop != nullptr && *options_.stop != 0; }

  void answer_handshake(std::uint32_t delegation) {
    session_.reset();
    if (delegation >= detail::delegation_version) {
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

  /// Takes over what a delegated run brings along; false: it does not belong to this session.
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

  /// A site table set since the last run, by the model in that run perhaps, changes the numbers of the call sites.
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
      if (told_to_stop()) return;
      follow_sites();
      delegate.begin(seed);
      const Tensor result = forward(delegate);
      if (state_ != State::running) break;
      delegate.end(result);
      if (record_.bytes() > largest_answer) break;
    }
    finish_traces();
  }

  /// False: told to stop.
  bool execute_chain(const RunRequest& request) {
    detail::Chain chain(session_->tables, record_, request);
    while (chain.next()) {
      if (told_to_stop()) return false;
      follow_sites();
      detail::Delegate delegate(session_->tables, record_, session_->observations, chain.request(), nullptr);
      delegate.begin(chain.seed());
      const Tensor result = forward(delegate);
      delegate.end(result);
      chain.take();
      if (record_.bytes() > largest_answer) break;
    }
    return true;
  }

  void finish_traces() {
    if (state_ == State::running && record_.bytes() > largest_answer) {
      session_.reset();  // its tables hold what was never sent
      socket_.send(encoder_.reset("the traces of these runs fill more than " + std::to_string(largest_answer >> 20U) +
                                  " MiB, the most for a message: ask for fewer runs at a time"));
      return;
    }
    const bool whole = state_ == State::running;
    finish([&] { return encoder_.traces(session_->number, record_, session_->tables.news()); }, true);
    if (!whole && state_ != State::answer_handshake) session_.reset();  // its tables hold what was never sent
    if (whole) session_->tables.sent();
  }

  template <typename Answer>
  void finish(const Answer& answer, bool is_large = false) {
    switch (state_) {
      case State::running:
        if (const Bytes bytes = answer(); is_large && bytes.size >= worth_keeping) {
          socket_.send(bytes, encoder_.keeper());
        } else {
          socket_.send(bytes);
        }
        break;
      case State::answer_handshake:
        answer_handshake(handshake_delegation_);
        break;
      case State::answer_reset:
        socket_.send(encoder_.reset());
        break;
      case State::leave:
        break;
    }
  }

  /// Whatever leaves `forward` once the run is abandoned is our own signal, or what the simulator made of it.
  Tensor forward(detail::Peer& peer) {
    const auto* const delegate = dynamic_cast<const detail::Delegate*>(&peer);
    const auto is_over = [&] { return state_ != State::running || (delegate != nullptr && delegate->over()); };
    detail::Run run(peer);
    try {
      return run.forward(model_);
    } catch (const AbandonRun&) {
      return {};
    } catch (const std::exception& error) {
      if (!is_over()) fail(run, error.what());
    } catch (...) {
      if (!is_over()) fail(run, "something that is no std::exception");
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
    const std::string partner = socket_.sender();
    socket_.send(statement);
    if (!next_request()) abandon(State::leave);
    Received received = detail::decode(socket_.request());
    // Another client may take over with a Handshake, the way out when the first has died; else it has to wait its turn.
    while (socket_.sender() != partner && received.type != MessageType::handshake) {
      socket_.send(encoder_.reset());
      if (!next_request()) abandon(State::leave);
      received = detail::decode(socket_.request());
    }
    if (received.type == expected && received.error.empty()) return received;
    if (received.type == MessageType::handshake) {
      handshake_delegation_ = received.delegation;
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
  std::uint32_t handshake_delegation_ = 0;
};

}  // namespace

void serve(Model& model, const ServeOptions& options) { Server(model, options).serve(); }

}  // namespace ppx
