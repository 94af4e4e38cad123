// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// The conversation over real sockets: runs, and errors of peers.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <future>
#include <memory>
#include <thread>

#include "check.hpp"
#include "client.hpp"
#include "ppx/ppx.hpp"

namespace {

namespace wire = ppx::wire;
using std::chrono::milliseconds;

/// mu ~ N(1, 2); observes obs0 without and obs1 with a value; tags and returns mu. Counts its runs.
struct TestModel final : ppx::Model {
  std::atomic<int> started{0}, unwound{0}, finished{0};
  bool swallow = false;       // catch the exception that ends the run, and continue
  bool throw_itself = false;  // throw an error

  std::string name() const override { return "test model"; }

  ppx::Tensor forward() override {
    struct Unwound {
      std::atomic<int>& count;
      ~Unwound() { ++count; }
    };
    const Unwound unwinding{unwound};
    ++started;
    double mu = 0.0;
    try {
      mu = ppx::sample(ppx::Normal{1.0, 2.0}, false, "mu");
    } catch (...) {
      if (!swallow) throw;
      try {
        ppx::tag("swallowed", 0.0);
      } catch (...) {
        return 0.0;
      }
    }
    if (throw_itself) throw std::runtime_error("the detector fell over");
    ppx::observe(ppx::Normal{mu, 1.0}, "obs0");
    ppx::observe(ppx::Normal{mu, 1.0}, "obs1", ppx::Tensor(9.0));
    ppx::tag("mu", mu);
    ++finished;
    return mu;
  }
};

/// Serves the model in a thread until destroyed.
class Serving {
 public:
  explicit Serving(ppx::Model& model, const std::string& endpoint = "tcp://127.0.0.1:*", milliseconds idle = {}) {
    options_.endpoint = endpoint;
    options_.system_name = "test system";
    options_.stop = &stop_;
    options_.idle_timeout = idle;
    std::promise<std::string> bound;
    options_.on_bound = [&bound](const std::string& where) { bound.set_value(where); };
    done_ = std::async(std::launch::async, [this, &model] { ppx::serve(model, options_); });
    endpoint_ = bound.get_future().get();
  }
  ~Serving() {
    stop_ = 1;
    if (done_.valid()) done_.wait();
  }
  Serving(const Serving&) = delete;
  Serving& operator=(const Serving&) = delete;

  const std::string& endpoint() const { return endpoint_; }
  void stop() { stop_ = 1; }
  /// Rethrows the exception of serve.
  void join() {
    CHECK(done_.wait_for(std::chrono::seconds(10)) == std::future_status::ready);
    done_.get();
  }

 private:
  volatile std::sig_atomic_t stop_ = 0;
  ppx::ServeOptions options_;
  std::string endpoint_;
  std::future<void> done_;
};

double scalar(const wire::Tensor* tensor) {
  CHECK(tensor != nullptr && tensor->data()->size() == 1);
  return tensor->data()->Get(0);
}

/// A complete run with the value for mu; checks every statement.
void run_through(Client& client, double mu) {
  const auto* sample = client.ask(message::run()).body_as_Sample();
  CHECK(sample != nullptr);
  CHECK_EQUAL(sample->name()->str(), "mu");
  CHECK(sample->address()->str().find("TestModel::forward()+0x") != std::string::npos ||
        sample->address()->str().find("test_serve+0x") != std::string::npos);
  CHECK(!sample->control() && !sample->replace());
  CHECK_EQUAL(scalar(sample->distribution_as_Normal()->mean()), 1.0);
  CHECK_EQUAL(sample->distribution_as_Normal()->mean()->shape()->size(), 0U);
  const auto* open = client.ask(message::sample_result({mu})).body_as_Observe();
  CHECK(open != nullptr && open->value() == nullptr);
  CHECK_EQUAL(scalar(open->distribution_as_Normal()->mean()), mu);
  const auto* given = client.ask(message::observe_result()).body_as_Observe();
  CHECK(given != nullptr);
  CHECK_EQUAL(given->name()->str(), "obs1");
  CHECK_EQUAL(scalar(given->value()), 9.0);
  const auto* tag = client.ask(message::observe_result()).body_as_Tag();
  CHECK(tag != nullptr);
  CHECK_EQUAL(scalar(tag->value()), mu);
  const auto* result = client.ask(message::tag_result()).body_as_RunResult();
  CHECK(result != nullptr);
  CHECK_EQUAL(scalar(result->result()), mu);
}

void shake_hands(Client& client) {
  const auto* result = client.ask(message::handshake()).body_as_HandshakeResult();
  CHECK(result != nullptr);
  CHECK_EQUAL(result->system_name()->str(), "test system");
  CHECK_EQUAL(result->model_name()->str(), "test model");
}

bool is_reset(const wire::Message& reply) { return reply.body_type() == wire::MessageBody_Reset; }

void whole_runs(const std::string& endpoint, int client_type) {
  TestModel model;
  Serving serving(model, endpoint);
  Client client(serving.endpoint(), client_type);
  shake_hands(client);
  for (const double mu : {0.25, -3.0, 7.5}) run_through(client, mu);
  CHECK_EQUAL(model.finished.load(), 3);
}

void runs_over_tcp() { whole_runs("tcp://127.0.0.1:*", ZMQ_REQ); }
void runs_over_ipc() { whole_runs("ipc://@ppx-test-serve-" + std::to_string(getpid()), ZMQ_REQ); }
void runs_with_a_dealer() { whole_runs("tcp://127.0.0.1:*", ZMQ_DEALER); }

void unexpected_messages_at_top_level_are_answered_with_reset() {
  TestModel model;
  Serving serving(model);
  Client client(serving.endpoint());
  for (const auto& wrong : std::vector<Client::Bytes>{message::sample_result({1.0}),
                                                      message::observe_result(),
                                                      message::reset(),
                                                      {},
                                                      {1, 2, 3},
                                                      Client::Bytes(1000, 0xff),
                                                      Client::Bytes(16, 0)}) {
    CHECK(is_reset(client.ask(wrong)));
  }
  const auto whole = message::handshake();
  for (std::size_t size = 0; size + 1 < whole.size(); size += 3) {
    const auto type = client.ask({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)}).body_type();
    CHECK(type == wire::MessageBody_Reset || type == wire::MessageBody_HandshakeResult);
  }
  CHECK_EQUAL(model.started.load(), 0);
  shake_hands(client);
  run_through(client, 1.0);
}

void messages_of_several_frames_are_answered_with_reset() {
  TestModel model;
  Serving serving(model);
  Client client(serving.endpoint());
  client.send(message::handshake(), ZMQ_SNDMORE);
  client.send(message::handshake());
  CHECK(is_reset(client.receive()));
  shake_hands(client);
}

void wrong_messages_in_a_run_abandon_it() {
  TestModel model;
  Serving serving(model);
  Client client(serving.endpoint());
  int runs = 0;
  for (const auto& wrong : std::vector<Client::Bytes>{message::observe_result(),
                                                      message::run(),
                                                      message::reset(),
                                                      {9, 9, 9},
                                                      message::sample_result({}),
                                                      message::sample_result({1.0, 2.0}, {2}),
                                                      message::sample_result({std::nan("")})}) {
    CHECK(client.ask(message::run()).body_as_Sample() != nullptr);
    CHECK(is_reset(client.ask(wrong)));
    ++runs;
    CHECK_EQUAL(model.started.load(), runs);
    CHECK_EQUAL(model.unwound.load(), runs);
    CHECK_EQUAL(model.finished.load(), 0);
  }
  run_through(client, 2.0);  // the model is usable again
  // Also at a later statement.
  client.ask(message::run());
  client.ask(message::sample_result({0.0}));
  CHECK(is_reset(client.ask(message::tag_result())));
  run_through(client, 3.0);
}

void a_handshake_in_a_run_begins_a_new_session() {
  TestModel model;
  Serving serving(model);
  {
    Client first(serving.endpoint());
    shake_hands(first);
    CHECK(first.ask(message::run()).body_as_Sample() != nullptr);
  }  // disappears during its run
  Client second(serving.endpoint());
  shake_hands(second);
  CHECK_EQUAL(model.unwound.load(), 1);
  run_through(second, 4.0);
  CHECK_EQUAL(model.finished.load(), 1);
}

void a_model_that_catches_the_exception_does_not_affect_the_next_run() {
  TestModel model;
  model.swallow = true;
  Serving serving(model);
  Client client(serving.endpoint());
  CHECK(client.ask(message::run()).body_as_Sample() != nullptr);
  CHECK(is_reset(client.ask(message::reset())));
  CHECK(client.ask(message::run()).body_as_Sample() != nullptr);
  shake_hands(client);
  run_through(client, 5.0);
}

void a_model_that_throws_ends_serving_with_its_message() {
  TestModel model;
  model.throw_itself = true;
  Serving serving(model);
  Client client(serving.endpoint());
  client.ask(message::run());
  client.send(message::sample_result({0.5}));
  CHECK_ERROR(ppx::ModelError, serving.join(), "test model", "the detector fell over", "last statement was at [");
}

void parameters_that_are_not_valid_are_reported_with_the_address_of_their_own_statement() {
  struct Negative final : ppx::Model {
    std::string name() const override { return "negative"; }
    ppx::Tensor forward() override {
      const double mean = ppx::sample(ppx::Normal{0.0, 1.0});
      return ppx::sample(ppx::Normal{mean, -1.0});
    }
  } model;
  Serving serving(model);
  Client client(serving.endpoint());
  const std::string before = client.ask(message::run()).body_as_Sample()->address()->str();
  client.send(message::sample_result({0.5}));
  std::string error;
  try {
    serving.join();
  } catch (const ppx::ModelError& thrown) {
    error = thrown.what();
  }
  CHECK(error.find("stddev must be finite and > 0, found -1") != std::string::npos);
  CHECK(error.find("last statement was at [") != std::string::npos);
  CHECK(error.find(before) == std::string::npos);
}

void the_stop_flag_ends_serving_also_in_a_run() {
  TestModel model;
  {
    Serving serving(model);
    serving.stop();
    serving.join();
  }
  Serving serving(model);
  Client client(serving.endpoint());
  client.ask(message::run());
  serving.stop();
  serving.join();
  CHECK_EQUAL(model.unwound.load(), 1);
}

void an_idle_simulator_ends() {
  TestModel model;
  const auto start = std::chrono::steady_clock::now();
  Serving serving(model, "tcp://127.0.0.1:*", milliseconds(300));
  Client client(serving.endpoint());
  client.ask(message::run());  // idle during a run
  serving.join();
  const auto took = std::chrono::steady_clock::now() - start;
  CHECK(took >= milliseconds(300) && took < milliseconds(5000));
  CHECK_EQUAL(model.unwound.load(), 1);
}

void endpoints_that_cannot_be_bound_are_named() {
  TestModel model;
  Serving first(model);
  const auto serve_at = [&model](const std::string& endpoint) {
    ppx::ServeOptions options;
    options.endpoint = endpoint;
    ppx::serve(model, options);
  };
  CHECK_ERROR(ppx::TransportError, serve_at(first.endpoint()), first.endpoint(), "in use");
  // ZeroMQ itself would take these as ports of its own choice
  CHECK_ERROR(ppx::TransportError, serve_at("tcp://127.0.0.1:65536"), "65536", "a port from 0 to 65535");
  CHECK_ERROR(ppx::TransportError, serve_at("tcp://127.0.0.1:99999999999"), "99999999999", "a port from 0 to 65535");
  CHECK_ERROR(ppx::TransportError, serve_at("nonsense"), "nonsense", "expected");
  CHECK_ERROR(ppx::TransportError, serve_at("ipc:///no/such/folder/x.ipc"), "/no/such/folder");
  CHECK_ERROR(ppx::TransportError, serve_at("ipc:///tmp/" + std::string(200, 'x')), "107 bytes");
}

void socket_files_are_guarded_and_removed() {
  namespace fs = std::filesystem;
  const fs::path path = fs::temp_directory_path() / ("ppx-test-serve-" + std::to_string(getpid()));
  const std::string endpoint = "ipc://" + path.string();
  TestModel model;
  {
    const Serving first(model, endpoint);
    CHECK(fs::exists(path));
    ppx::ServeOptions options;
    options.endpoint = endpoint;
    CHECK_ERROR(ppx::TransportError, ppx::serve(model, options), path.string(), "in use");
    Client client(endpoint);  // the first still serves
    shake_hands(client);
  }
  CHECK(!fs::exists(path));
  {
    // The file of a killed simulator, on which no process listens, is replaced.
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string text = path.string();
    std::copy(text.begin(), text.end(), address.sun_path);
    const int stale = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(bind(stale, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    close(stale);
    CHECK(fs::exists(path));
    const Serving second(model, endpoint);
    Client client(endpoint);
    shake_hands(client);
  }
  CHECK(!fs::exists(path));
}

}  // namespace

int main() {
  return run_tests(
      {{"runs over tcp", runs_over_tcp},
       {"runs over ipc", runs_over_ipc},
       {"runs with a dealer", runs_with_a_dealer},
       {"unexpected messages at top level are answered with reset",
        unexpected_messages_at_top_level_are_answered_with_reset},
       {"messages of several frames are answered with reset", messages_of_several_frames_are_answered_with_reset},
       {"wrong messages in a run abandon it", wrong_messages_in_a_run_abandon_it},
       {"a handshake in a run begins a new session", a_handshake_in_a_run_begins_a_new_session},
       {"a model that catches the exception does not affect the next run",
        a_model_that_catches_the_exception_does_not_affect_the_next_run},
       {"a model that throws ends serving with its message", a_model_that_throws_ends_serving_with_its_message},
       {"parameters that are not valid are reported with the address of their own statement",
        parameters_that_are_not_valid_are_reported_with_the_address_of_their_own_statement},
       {"the stop flag ends serving, also in a run", the_stop_flag_ends_serving_also_in_a_run},
       {"an idle simulator ends", an_idle_simulator_ends},
       {"endpoints that cannot be bound are named", endpoints_that_cannot_be_bound_are_named},
       {"socket files are guarded and removed", socket_files_are_guarded_and_removed}});
}
