// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#ifndef PPX_SRC_SOCKET_HPP
#define PPX_SRC_SOCKET_HPP

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "socket_file.hpp"
#include "wire.hpp"

namespace ppx::detail {

/// A bound ZeroMQ socket that answers requests, with its context. Errors are TransportError. It is a ROUTER, because a
/// REP socket does not distinguish clients: a late message of one would be taken for an answer of another.
class ReplySocket {
 public:
  explicit ReplySocket(const std::string& endpoint);
  ~ReplySocket();
  ReplySocket(const ReplySocket&) = delete;
  ReplySocket& operator=(const ReplySocket&) = delete;

  /// The endpoint with wildcards resolved.
  std::string endpoint() const;

  /// Waits up to `wait`; false if no request or a signal arrived. A request of several frames gives an empty `request`.
  bool receive(std::chrono::milliseconds wait);

  /// The last request; aligned to 8 bytes, valid until the next receive.
  Bytes request() const { return {reinterpret_cast<const std::uint8_t*>(words_.data()), size_}; }

  /// Identity of its sender: equal for requests of one connection.
  const std::string& sender() const { return sender_; }

  /// To the sender of the last request.
  void send(Bytes reply);
  /// Without a copy; `keeper` is released when the reply has been sent.
  void send(Bytes reply, std::shared_ptr<const void> keeper);

 private:
  struct Close {
    void operator()(void* socket) const;
  };
  struct Terminate {
    void operator()(void* context) const;
  };

  void store(const void* data, std::size_t size);
  void send_part(const void* data, std::size_t size, int flags);

  SocketFile file_;                           // removed after the socket is closed
  std::unique_ptr<void, Terminate> context_;  // outlives the socket: declared first
  std::unique_ptr<void, Close> socket_;
  std::vector<double> words_;  // of doubles for the alignment
  std::size_t size_ = 0;
  std::string sender_;
};

}  // namespace ppx::detail

#endif
