// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Several processes that serve one model, forked after its initialisation: they share its time and, until they write to
// it, its memory.
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <system_error>
#include <thread>
#include <vector>

#include "ppx/ppx.hpp"
#include "worker_process.hpp"

namespace ppx {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using detail::SharedFlags;
using detail::WorkerPlace;
using std::chrono::milliseconds;

constexpr unsigned max_failed_starts = 5;
constexpr milliseconds min_restart_interval{100};
constexpr milliseconds termination_timeout{500};  // from SIGTERM to SIGKILL
constexpr milliseconds poll_interval{50};         // ends early when a child ends

extern "C" void wake_up(int /*signal*/) {}

/// While this object exists, the end of a child interrupts a sleep.
class WokenByChildren {
 public:
  WokenByChildren() {
    struct sigaction action = {};
    action.sa_handler = wake_up;
    sigaction(SIGCHLD, &action, &before_);
  }
  ~WokenByChildren() { restore(); }
  WokenByChildren(const WokenByChildren&) = delete;
  WokenByChildren& operator=(const WokenByChildren&) = delete;

  void restore() const { sigaction(SIGCHLD, &before_, nullptr); }

 private:
  struct sigaction before_ = {};
};

void sleep_for(milliseconds time) {
  const timespec duration{time.count() / 1000, (time.count() % 1000) * 1000000};
  nanosleep(&duration, nullptr);
}

/// A folder in TMPDIR for the folders of the workers.
class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "ppx-workers-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) {
      throw Error("ppx: cannot create the folder of the workers " + name + ": " + std::strerror(errno) +
                  " (set TMPDIR)");
    }
    path_ = name;
  }
  ~Folder() {
    std::error_code ignored;  // a destructor cannot report errors
    fs::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const fs::path& path() const noexcept { return path_; }

 private:
  fs::path path_;
};

struct Worker {
  WorkerPlace place;
  pid_t pid = 0;  // 0: not running
  Clock::time_point started = {};
  unsigned failed_starts = 0;  // in a row
  bool over = false;           // finished regularly
};

class Workers {
 public:
  Workers(Model& model, const ServeOptions& options, unsigned count, bool pin)
      : model_(model), options_(options), pin_(pin), flags_(count), workers_(count) {
    for (unsigned i = 0; i < count; ++i) {
      WorkerPlace& place = workers_[i].place;
      place.number = i;
      place.endpoint = detail::worker_endpoint(options.endpoint, i);
      place.folder = (folder_.path() / std::to_string(i)).string();
      fs::create_directory(place.folder);
    }
  }

  ~Workers() { end_all(); }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  void serve() {
    while (!stop_requested()) {
      const auto now = Clock::now();
      bool any = false;
      for (Worker& worker : workers_) {
        if (worker.over) continue;
        any = true;
        if (worker.pid == 0 && now - worker.started >= min_restart_interval) start(worker);
      }
      if (!any) return;
      sleep_for(poll_interval);
      for (Worker& worker : workers_) look_after(worker);
    }
  }

 private:
  bool stop_requested() const { return options_.stop != nullptr && *options_.stop != 0; }

  void start(Worker& worker) {
    flags_[worker.place.number].bound = false;
    // Buffered output would be written twice.
    std::cout.flush();
    std::fflush(nullptr);
    worker.started = Clock::now();
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid < 0) throw Error(std::string("ppx: cannot fork a worker: ") + std::strerror(errno));
    if (pid == 0) {
      woken_.restore();
      detail::be_worker(model_, options_, worker.place, flags_[worker.place.number], parent, pin_);
    }
    worker.pid = pid;
  }

  void look_after(Worker& worker) {
    int status = 0;
    if (worker.pid == 0 || waitpid(worker.pid, &status, WNOHANG) != worker.pid) return;
    const pid_t pid = worker.pid;
    worker.pid = 0;
    if (stop_requested()) return;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && flags_[worker.place.number].finished) {
      worker.over = true;
      return;
    }
    const std::string report = detail::worker_name(worker.place.number, pid) + detail::how_it_ended(status);
    std::cerr << report + "\n";
    worker.failed_starts = flags_[worker.place.number].bound ? 0 : worker.failed_starts + 1;
    clear_up(worker);
    if (worker.failed_starts >= max_failed_starts) {
      throw Error("ppx: " + report + " before it served, " + std::to_string(worker.failed_starts) + " times in a row");
    }
  }

  /// Removes the files that a killed worker left.
  void clear_up(const Worker& worker) {
    if (flags_[worker.place.number].bound) detail::remove_socket_file(worker.place.endpoint);
    std::error_code ignored;  // a full or faulty disk: the next worker reports it
    for (const auto& left : fs::directory_iterator(worker.place.folder, ignored)) fs::remove_all(left.path(), ignored);
  }

  void end_all() {
    for (const Worker& worker : workers_) {
      if (worker.pid != 0) kill(worker.pid, SIGTERM);
    }
    const auto deadline = Clock::now() + termination_timeout;
    for (Worker& worker : workers_) {
      while (worker.pid != 0) {
        int status = 0;
        const pid_t found = waitpid(worker.pid, &status, WNOHANG);
        if (found == worker.pid || (found < 0 && errno != EINTR)) {
          worker.pid = 0;
        } else if (Clock::now() < deadline) {
          sleep_for(milliseconds(2));
        } else {
          kill(worker.pid, SIGKILL);
          while (waitpid(worker.pid, &status, 0) < 0 && errno == EINTR) {
          }
          worker.pid = 0;
        }
      }
      clear_up(worker);
    }
  }

  Model& model_;
  const ServeOptions& options_;
  const bool pin_;
  WokenByChildren woken_;
  Folder folder_;
  SharedFlags flags_;
  std::vector<Worker> workers_;
};

}  // namespace

void serve_workers(Model& model, const ServeOptions& options, unsigned workers, bool pin) {
  if (workers == 0) throw Error("ppx: expected one worker or more");
  Workers(model, options, workers, pin).serve();
}

}  // namespace ppx
