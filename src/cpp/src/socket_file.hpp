// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// The file behind an `ipc:///path` endpoint. ZeroMQ takes over the file of a process that still serves there without a
// word, and leaves its own behind.
#ifndef PPX_SRC_SOCKET_FILE_HPP
#define PPX_SRC_SOCKET_FILE_HPP

#include <sys/types.h>

#include <string>

namespace ppx::detail {

class SocketFile {
 public:
  /// Throws TransportError when a process listens there. Does nothing for endpoints without a file.
  explicit SocketFile(const std::string& endpoint);
  /// Removes the file if it is still the one that `bound` saw.
  ~SocketFile();
  SocketFile(const SocketFile&) = delete;
  SocketFile& operator=(const SocketFile&) = delete;

  void bound();

  /// The path of `ipc:///path`; empty for other transports, abstract names (`ipc://@name`) and wildcards.
  static std::string path_of(const std::string& endpoint);

 private:
  std::string path_;  // empty: no file
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace ppx::detail

#endif
