// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// A proxy between a simulator and its peer that replaces one reply by invalid bytes, which the front end never sends.
#ifndef PPX_EXAMPLES_GARBLING_PROXY_HPP
#define PPX_EXAMPLES_GARBLING_PROXY_HPP

#include <unistd.h>
#include <zmq.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <thread>

class GarblingProxy {
 public:
  /// Binds `frontend`; the simulator must serve at `backend()`. Reply number `garbled` (from 0) is replaced.
  GarblingProxy(const std::string& frontend, std::uint64_t garbled)
      : backend_("ipc://@ppx-garbling-" + std::to_string(getpid())), garbled_(garbled), context_(zmq_ctx_new()) {
    front_ = open(ZMQ_REP);
    back_ = open(ZMQ_REQ);
    if (zmq_bind(front_, frontend.c_str()) != 0 || zmq_connect(back_, backend_.c_str()) != 0) {
      const std::string reason = zmq_strerror(zmq_errno());
      close();
      throw std::runtime_error("cannot bind `" + frontend + "`: " + reason);
    }
    thread_ = std::thread([this] { forward(); });
  }
  ~GarblingProxy() {
    stop_ = true;
    thread_.join();
    close();
  }
  GarblingProxy(const GarblingProxy&) = delete;
  GarblingProxy& operator=(const GarblingProxy&) = delete;

  const std::string& backend() const { return backend_; }

 private:
  void* open(int type) const {
    void* socket = zmq_socket(context_, type);
    const int no_linger = 0;
    const int timeout_ms = 100;
    zmq_setsockopt(socket, ZMQ_LINGER, &no_linger, sizeof no_linger);
    zmq_setsockopt(socket, ZMQ_RCVTIMEO, &timeout_ms, sizeof timeout_ms);
    return socket;
  }

  void close() {
    zmq_close(front_);
    zmq_close(back_);
    zmq_ctx_term(context_);
  }

  /// The size of a received message; -1 if stopped.
  int receive(void* socket) {
    while (!stop_) {
      const int size = zmq_recv(socket, buffer_.data(), buffer_.size(), 0);
      if (size >= 0) return size;
    }
    return -1;
  }

  void forward() {
    for (std::uint64_t reply = 0;; ++reply) {
      const int request_size = receive(front_);
      if (request_size < 0) return;
      zmq_send(back_, buffer_.data(), static_cast<std::size_t>(request_size), 0);
      const int reply_size = receive(back_);
      if (reply_size < 0) return;
      if (reply == garbled_) buffer_.fill(0x5a);
      zmq_send(front_, buffer_.data(), static_cast<std::size_t>(reply_size), 0);
    }
  }

  std::string backend_;
  std::uint64_t garbled_;
  void* context_;
  void* front_ = nullptr;
  void* back_ = nullptr;
  std::array<unsigned char, 65536> buffer_{};  // larger than all messages of ten scalar draws
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

#endif
