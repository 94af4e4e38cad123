// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// One worker of `serve_workers`: where it is, what it does after the fork, and how its end is put into words.
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

/// What a worker tells the process that forked it.
struct WorkerFlags {
  std::atomic<bool> bound;     // it serves
  std::atomic<bool> finished;  // it was told to stop, or idle for too long: its end is none to mend
};

/// Flags of all workers, in memory that forks share.
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

/// `ipc://path` -> `ipc://path.3`, `tcp://address:5555` -> `tcp://address:5558`. Throws TransportError where that makes
/// no sense.
std::string worker_endpoint(const std::string& endpoint, unsigned number);

/// "worker 3 (pid 123)": clients find the process by it.
std::string worker_name(unsigned number, pid_t pid);

/// " was killed by SIGKILL", " exited with code 1".
std::string how_it_ended(int status);

void remove_socket_file(const std::string& endpoint);

/// What the child does after the fork: serves, dies with its parent, never returns.
[[noreturn]] void be_worker(Model& model, const ServeOptions& options, const WorkerPlace& place, WorkerFlags& flags,
                            pid_t parent, bool pin) noexcept;

}  // namespace ppx::detail

#endif
