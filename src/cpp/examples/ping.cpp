// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// usage: ping ENDPOINT BYTES
//
// Answers every request with a message of that many bytes, to measure the round trip without any processing. The
// reference for draws in `etalumis bench ppx`. Serves until it is killed.
#include <zmq.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <iostream>
#include <string_view>
#include <vector>

namespace {

constexpr std::size_t max_bytes = 1 << 16;

bool read_size(std::string_view text, std::size_t& size) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size);
  return error == std::errc() && end == text.data() + text.size() && size <= max_bytes;
}

int failed(const char* what) {
  std::cerr << "ping: " << what << ": " << zmq_strerror(errno) << '\n';
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t size = 0;
  if (argc != 3 || !read_size(argv[2], size)) {
    std::cerr << "usage: ping ENDPOINT BYTES (at most " << max_bytes << ")\n";
    return 2;
  }
  void* const context = zmq_ctx_new();
  void* const socket = zmq_socket(context, ZMQ_REP);
  if (socket == nullptr || zmq_bind(socket, argv[1]) != 0) return failed(argv[1]);
  const std::vector<char> answer(size);
  std::array<char, max_bytes> request;
  while (true) {
    if (zmq_recv(socket, request.data(), request.size(), 0) < 0) return failed("receiving");
    if (zmq_send(socket, answer.data(), answer.size(), 0) < 0) return failed("sending");
  }
}
