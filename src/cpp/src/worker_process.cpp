// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include "worker_process.hpp"

#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/prctl.h>
#endif

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <new>
#include <vector>

#include "socket_file.hpp"

namespace ppx::detail {
namespace {

/// Ensures that no worker outlives its parent.
void die_with(pid_t parent) {
#ifdef __linux__
  prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
  if (getppid() != parent) _exit(1);
}

/// Pins worker i to the i-th of the cores that this process may use, modulo their number.
void pin_to_core(unsigned number) {
#ifdef __linux__
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;  // pinning only saves time: no error
  std::vector<int> cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &allowed)) cores.push_back(core);
  }
  cpu_set_t one_core;
  CPU_ZERO(&one_core);
  CPU_SET(cores[number % cores.size()], &one_core);
  sched_setaffinity(0, sizeof one_core, &one_core);
#else
  (void)number;
#endif
}

void serve_as(Model& model, const ServeOptions& options, const WorkerPlace& place, WorkerFlags& flags) {
  if (chdir(place.folder.c_str()) != 0 || setenv("TMPDIR", place.folder.c_str(), 1) != 0) {
    throw Error("ppx: cannot change to the folder " + place.folder + ": " + std::strerror(errno));
  }
  ServeOptions own = options;
  own.endpoint = place.endpoint;
  own.system_name += ", " + worker_name(place.number, getpid());
  own.on_bound = [&](const std::string& endpoint) {
    flags.bound = true;
    if (options.on_bound) options.on_bound(endpoint);
  };
  serve(model, own);
}

}  // namespace

SharedFlags::SharedFlags(std::size_t count) : size_(count * sizeof(WorkerFlags)), flags_(nullptr) {
  void* const memory = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    throw Error(std::string("ppx: cannot allocate shared memory for workers: ") + std::strerror(errno));
  flags_ = new (memory) WorkerFlags[count]();
}

SharedFlags::~SharedFlags() { munmap(flags_, size_); }

std::string worker_endpoint(const std::string& endpoint, unsigned number) {
  if (endpoint.rfind("ipc://", 0) == 0 && endpoint != "ipc://*") {
    // Workers change their directory, so a relative path is made absolute. `@name` is not a path.
    const std::string path = endpoint.substr(6);
    const std::string place = path.rfind('@', 0) == 0 ? path : std::filesystem::absolute(path).string();
    return "ipc://" + place + "." + std::to_string(number);
  }
  if (endpoint.rfind("tcp://", 0) == 0) {
    const std::size_t colon = endpoint.rfind(':');
    unsigned port = 0;
    const char* const last = endpoint.data() + endpoint.size();
    const auto [end, error] = std::from_chars(endpoint.data() + colon + 1, last, port);
    if (error == std::errc() && end == last && port >= 1 && port <= 65535 && number <= 65535 - port) {
      return endpoint.substr(0, colon + 1) + std::to_string(port + number);
    }
  }
  throw TransportError("ppx: no endpoint for worker " + std::to_string(number) + " next to `" + endpoint +
                       "`; expected ipc:///path or tcp://address:port, where worker i gets /path.i or port + i");
}

std::string worker_name(unsigned number, pid_t pid) {
  return "worker " + std::to_string(number) + " (pid " + std::to_string(pid) + ")";
}

std::string how_it_ended(int status) {
  if (WIFEXITED(status)) return " exited with code " + std::to_string(WEXITSTATUS(status));
  const int number = WTERMSIG(status);
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 32)
  if (const char* const name = sigabbrev_np(number)) return std::string(" was killed by SIG") + name;
#endif
  return " was killed by signal " + std::to_string(number);
}

void remove_socket_file(const std::string& endpoint) {
  if (const std::string path = SocketFile::path_of(endpoint); !path.empty()) unlink(path.c_str());
}

void be_worker(Model& model, const ServeOptions& options, const WorkerPlace& place, WorkerFlags& flags, pid_t parent,
               bool pin) noexcept {
  int code = 1;
  try {
    die_with(parent);
    if (pin) pin_to_core(place.number);
    serve_as(model, options, place, flags);
    flags.finished = true;
    code = 0;
  } catch (const std::exception& error) {
    std::cerr << worker_name(place.number, getpid()) + ": " + error.what() + "\n";
  }
  std::cout.flush();
  std::fflush(nullptr);
  _exit(code);  // without the exit handlers of the parent
}

}  // namespace ppx::detail
