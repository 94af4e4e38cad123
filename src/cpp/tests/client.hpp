// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// A minimal inference side: a raw ZeroMQ socket and the generated code, without the front end.
#ifndef PPX_TESTS_CLIENT_HPP
#define PPX_TESTS_CLIENT_HPP

#include <zmq.h>

#include <cstring>
#include <string>
#include <vector>

#include "check.hpp"
#include "ppx_generated.h"

class Client {
 public:
  using Bytes = std::vector<std::uint8_t>;

  explicit Client(const std::string& endpoint, int type = ZMQ_REQ) : dealer_(type == ZMQ_DEALER) {
    socket_ = zmq_socket(context_, type);
    const int timeout_ms = 10000;
    const int no_linger = 0;
    zmq_setsockopt(socket_, ZMQ_RCVTIMEO, &timeout_ms, sizeof timeout_ms);
    zmq_setsockopt(socket_, ZMQ_LINGER, &no_linger, sizeof no_linger);
    CHECK(zmq_connect(socket_, endpoint.c_str()) == 0);
  }
  ~Client() {
    zmq_close(socket_);
    zmq_ctx_term(context_);
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  void send(const Bytes& bytes, int flags = 0) {
    if (dealer_) zmq_send(socket_, "", 0, ZMQ_SNDMORE);
    CHECK(zmq_send(socket_, bytes.data(), bytes.size(), flags) >= 0);
  }

  /// The reply, which is valid until the next one.
  const ppx::wire::Message& receive() {
    if (dealer_) CHECK(zmq_recv(socket_, nullptr, 0, 0) == 0);
    reply_.resize(1U << 20U);
    const int size = zmq_recv(socket_, reply_.data(), reply_.size(), 0);
    if (size < 0) check_failed(__FILE__, __LINE__, std::string("no reply: ") + zmq_strerror(zmq_errno()));
    flatbuffers::Verifier verifier(reply_.data(), static_cast<std::size_t>(size));
    CHECK(verifier.VerifyBuffer<ppx::wire::Message>(nullptr));
    return *flatbuffers::GetRoot<ppx::wire::Message>(reply_.data());
  }

  const ppx::wire::Message& ask(const Bytes& bytes) {
    send(bytes);
    return receive();
  }

 private:
  bool dealer_;
  void* context_ = zmq_ctx_new();
  void* socket_ = nullptr;
  Bytes reply_;
};

namespace message {

namespace wire = ppx::wire;

template <typename MakeBody>
Client::Bytes make(wire::MessageBody type, MakeBody make_body) {
  flatbuffers::FlatBufferBuilder b;
  const auto body = make_body(b);
  b.Finish(wire::CreateMessage(b, type, body.Union()));
  return {b.GetBufferPointer(), b.GetBufferPointer() + b.GetSize()};
}

inline Client::Bytes handshake() {
  return make(wire::MessageBody_Handshake, [](auto& b) { return wire::CreateHandshakeDirect(b, "test client"); });
}
inline Client::Bytes run() {
  return make(wire::MessageBody_Run, [](auto& b) { return wire::CreateRun(b); });
}
inline Client::Bytes reset() {
  return make(wire::MessageBody_Reset, [](auto& b) { return wire::CreateReset(b); });
}
inline Client::Bytes observe_result() {
  return make(wire::MessageBody_ObserveResult, [](auto& b) { return wire::CreateObserveResult(b); });
}
inline Client::Bytes tag_result() {
  return make(wire::MessageBody_TagResult, [](auto& b) { return wire::CreateTagResult(b); });
}
inline Client::Bytes sample_result(const std::vector<double>& data, const std::vector<std::int32_t>& shape = {}) {
  return make(wire::MessageBody_SampleResult,
              [&](auto& b) { return wire::CreateSampleResult(b, wire::CreateTensorDirect(b, &data, &shape)); });
}

}  // namespace message

#endif
