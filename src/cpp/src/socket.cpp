// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include "socket.hpp"

#include <zmq.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace ppx::detail {
namespace {

// The largest valid requests contain a trace to replay and an observation. ZeroMQ drops the connection of a peer that
// sends more, which must be faulty or hostile.
constexpr std::int64_t max_request_bytes = std::int64_t{1} << 30;

[[noreturn]] void fail(const std::string& what) {
  throw TransportError("ppx: " + what + ": " + zmq_strerror(zmq_errno()));
}

/// ZeroMQ takes the port modulo 65536.
void require_valid_port(const std::string& endpoint) {
  if (endpoint.rfind("tcp://", 0) != 0) return;
  const std::string port = endpoint.substr(endpoint.rfind(':') + 1);
  const bool is_number =
      !port.empty() && std::all_of(port.begin(), port.end(), [](char c) { return c >= '0' && c <= '9'; });
  const std::string digits = port.substr(std::min(port.find_first_not_of('0'), port.size()));
  if (is_number && (digits.size() > 5 || (digits.size() == 5 && digits > "65535"))) {
    throw TransportError("ppx: cannot bind `" + endpoint + "`: expected a port from 0 to 65535");
  }
}

template <typename T>
void set_option(void* socket, int option, T value) {
  if (zmq_setsockopt(socket, option, &value, sizeof value) != 0) fail("cannot set a socket option");
}

/// RAII for a message part.
class Part {
 public:
  Part() { zmq_msg_init(&message_); }
  ~Part() { zmq_msg_close(&message_); }
  Part(const Part&) = delete;
  Part& operator=(const Part&) = delete;

  bool receive(void* socket, int flags) { return zmq_msg_recv(&message_, socket, flags) >= 0; }
  bool more() const { return zmq_msg_more(&message_) != 0; }
  const void* data() { return zmq_msg_data(&message_); }
  std::size_t size() const { return zmq_msg_size(&message_); }

 private:
  zmq_msg_t message_;
};

}  // namespace

void ReplySocket::Close::operator()(void* socket) const { zmq_close(socket); }

void ReplySocket::Terminate::operator()(void* context) const {
  while (zmq_ctx_term(context) != 0 && zmq_errno() == EINTR) {
  }
}

ReplySocket::ReplySocket(const std::string& endpoint) : file_(endpoint), context_(zmq_ctx_new()) {
  if (!context_) fail("cannot create a ZeroMQ context");
  socket_.reset(zmq_socket(context_.get(), ZMQ_ROUTER));
  if (!socket_) fail("cannot create a ZeroMQ socket");
  set_option(socket_.get(), ZMQ_LINGER, 0);
  set_option(socket_.get(), ZMQ_MAXMSGSIZE, max_request_bytes);
  require_valid_port(endpoint);
  if (zmq_bind(socket_.get(), endpoint.c_str()) != 0) {
    fail("cannot bind `" + endpoint +
         "` (expected a free ipc:///path of at most 107 bytes in a folder that exists, or tcp://address:port)");
  }
  file_.bound();
}

ReplySocket::~ReplySocket() = default;

std::string ReplySocket::endpoint() const {
  std::array<char, 512> text{};
  std::size_t size = text.size();
  if (zmq_getsockopt(socket_.get(), ZMQ_LAST_ENDPOINT, text.data(), &size) != 0) fail("cannot read the bound endpoint");
  return text.data();
}

bool ReplySocket::receive(std::chrono::milliseconds wait) {
  set_option(socket_.get(), ZMQ_RCVTIMEO, static_cast<int>(wait.count()));
  Part part;
  if (!part.receive(socket_.get(), 0)) {
    const int error = zmq_errno();
    if (error == EAGAIN || error == EINTR) return false;
    fail("cannot receive");
  }
  std::string sender(static_cast<const char*>(part.data()), part.size());
  // REQ sockets, and DEALER sockets that act like one, send an empty part before the request.
  const bool has_envelope = part.more() && part.receive(socket_.get(), 0) && part.size() == 0 && part.more();
  if (has_envelope && part.receive(socket_.get(), 0)) {
    sender_ = std::move(sender);
    store(part.data(), part.more() ? 0 : part.size());
  }
  while (part.more() && part.receive(socket_.get(), 0)) {
  }
  return has_envelope;
}

void ReplySocket::send(Bytes reply) {
  send_part(sender_.data(), sender_.size(), ZMQ_SNDMORE);
  send_part(nullptr, 0, ZMQ_SNDMORE);
  send_part(reply.data, reply.size, 0);
}

void ReplySocket::send(Bytes reply, std::shared_ptr<const void> keeper) {
  using Keeper = std::shared_ptr<const void>;
  send_part(sender_.data(), sender_.size(), ZMQ_SNDMORE);
  send_part(nullptr, 0, ZMQ_SNDMORE);
  const auto release = [](void* /*data*/, void* hint) { delete static_cast<Keeper*>(hint); };
  zmq_msg_t message;
  auto hint = std::make_unique<Keeper>(std::move(keeper));
  // ZeroMQ takes a non-const pointer, but does not write to it.
  if (zmq_msg_init_data(&message, const_cast<std::uint8_t*>(reply.data), reply.size, release, hint.get()) != 0) {
    fail("cannot make a message");
  }
  hint.release();  // now owned by the message
  while (zmq_msg_send(&message, socket_.get(), 0) < 0) {
    if (zmq_errno() == EINTR) continue;
    zmq_msg_close(&message);
    fail("cannot send");
  }
}

void ReplySocket::send_part(const void* data, std::size_t size, int flags) {
  while (zmq_send(socket_.get(), data, size, flags) < 0) {
    if (zmq_errno() != EINTR) fail("cannot send");
  }
}

void ReplySocket::store(const void* data, std::size_t size) {
  words_.resize(size / sizeof(double) + 1);
  if (size != 0) std::memcpy(words_.data(), data, size);
  size_ = size;
}

}  // namespace ppx::detail
