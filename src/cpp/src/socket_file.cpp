// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include "socket_file.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>

#include "ppx/ppx.hpp"

namespace ppx::detail {
namespace {

bool has_listener(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return false;  // too long: bind reports it
  std::copy(path.begin(), path.end(), address.sun_path);
  const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (probe < 0) return false;
  const bool connected = connect(probe, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  close(probe);
  return connected;
}

}  // namespace

std::string SocketFile::path_of(const std::string& endpoint) {
  const std::string scheme = "ipc://";
  if (endpoint.rfind(scheme, 0) != 0) return {};
  const std::string path = endpoint.substr(scheme.size());
  return path.empty() || path[0] == '@' || path == "*" ? std::string() : path;
}

SocketFile::SocketFile(const std::string& endpoint) : path_(path_of(endpoint)) {
  if (!path_.empty() && has_listener(path_)) {
    throw TransportError("ppx: cannot bind `" + endpoint + "`: in use by another process; choose another path");
  }
}

void SocketFile::bound() {
  struct stat status{};
  if (path_.empty() || stat(path_.c_str(), &status) != 0) return;
  device_ = status.st_dev;
  inode_ = status.st_ino;
}

SocketFile::~SocketFile() {
  struct stat status{};
  if (inode_ == 0 || stat(path_.c_str(), &status) != 0) return;
  if (status.st_dev == device_ && status.st_ino == inode_) unlink(path_.c_str());
}

}  // namespace ppx::detail
