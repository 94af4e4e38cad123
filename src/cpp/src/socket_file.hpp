// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// The file of an `ipc:///path` endpoint. ZeroMQ silently replaces the file of another process that still serves there,
// and does not remove its own.
#ifndef PPX_SRC_SOCKET_FILE_HPP
#define PPX_SRC_SOCKET_FILE_HPP

#include <sys/types.h>

#include <string>

namespace ppx::detail {

class SocketFile {
 public:
  /// Throws TransportError if a process listens there. Does nothing for endpoints without a file.
  explicit SocketFile(const std::string& endpoint);
  /// Removes the file if it is the same as at the call of `bound`.
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
