// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// usage: ping ENDPOINT BYTES
//
// Answers every request with a message of that many bytes: what a round trip costs when nobody looks at the messages.
// `etalumis bench ppx` holds a draw against it. Serves until it is ended.
#include <zmq.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <iostream>
#include <string_view>
#include <vector>

namespace {

constexpr std::size_t longest = 1 << 16;

bool read_size(std::string_view text, std::size_t& size) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size);
  return error == std::errc() && end == text.data() + text.size() && size <= longest;
}

int failed(const char* what) {
  std::cerr << "ping: " << what << ": " << zmq_strerror(errno) << '\n';
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t size = 0;
  if (argc != 3 || !read_size(argv[2], size)) {
    std::cerr << "usage: ping ENDPOINT BYTES (at most " << longest << ")\n";
    return 2;
  }
  void* const context = zmq_ctx_new();
  void* const socket = zmq_socket(context, ZMQ_REP);
  if (socket == nullptr || zmq_bind(socket, argv[1]) != 0) return failed(argv[1]);
  const std::vector<char> answer(size);
  std::array<char, longest> request;
  while (true) {
    if (zmq_recv(socket, request.data(), request.size(), 0) < 0) return failed("receiving");
    if (zmq_send(socket, answer.data(), answer.size(), 0) < 0) return failed("sending");
  }
}
