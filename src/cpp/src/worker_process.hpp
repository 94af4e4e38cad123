// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// One worker of `serve_workers`: its endpoint and folder, its work after the fork, and the report of its end.
#ifndef PPX_SRC_WORKER_PROCESS_HPP
#define PPX_SRC_WORKER_PROCESS_HPP

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <string>

#include "ppx/ppx.hpp"

namespace ppx::detail {

struct WorkerPlace {
  unsigned number = 0;
  std::string endpoint;
  std::string folder;  // its working directory, and its TMPDIR
};

/// Flags that a worker sets for its parent process.
struct WorkerFlags {
  std::atomic<bool> bound;     // it is serving
  std::atomic<bool> finished;  // it was stopped or idle for too long, so it is not replaced
};

/// Flags of all workers, in shared memory.
class SharedFlags {
 public:
  explicit SharedFlags(std::size_t count);
  ~SharedFlags();
  SharedFlags(const SharedFlags&) = delete;
  SharedFlags& operator=(const SharedFlags&) = delete;

  WorkerFlags& operator[](std::size_t i) const { return flags_[i]; }

 private:
  std::size_t size_;
  WorkerFlags* flags_;
};

/// `ipc://path` -> `ipc://path.3`, `tcp://address:5555` -> `tcp://address:5558`. Throws TransportError for other
/// endpoints.
std::string worker_endpoint(const std::string& endpoint, unsigned number);

/// "worker 3 (pid 123)", which clients parse.
std::string worker_name(unsigned number, pid_t pid);

/// " was killed by SIGKILL", " exited with code 1".
std::string how_it_ended(int status);

void remove_socket_file(const std::string& endpoint);

/// The work of a child after the fork: serves until it is stopped or its parent ends. Does not return.
[[noreturn]] void be_worker(Model& model, const ServeOptions& options, const WorkerPlace& place, WorkerFlags& flags,
                            pid_t parent, bool pin) noexcept;

}  // namespace ppx::detail

#endif
