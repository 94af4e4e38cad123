// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: GPL-3.0-or-later

#include "scratch.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <system_error>
#include <vector>

namespace sherpa_tau {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const std::string& what) { throw std::system_error(errno, std::generic_category(), what); }

// Returns a writable template for mkstemp and mkdtemp.
std::vector<char> temporary_name() {
  const std::string name = (fs::temp_directory_path() / "sherpa_tau-XXXXXX").string();
  std::vector<char> buffer(name.begin(), name.end());
  buffer.push_back('\0');
  return buffer;
}

void flush_output() {
  std::cout.flush();
  std::fflush(stdout);
}

}  // namespace

ScratchDirectory::ScratchDirectory() : home_(fs::current_path()) {
  std::vector<char> name = temporary_name();
  if (mkdtemp(name.data()) == nullptr) fail("scratch directory " + std::string(name.data()) + " (set TMPDIR)");
  path_ = name.data();
  fs::current_path(path_);
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;  // a destructor cannot report errors
  fs::current_path(home_, ignored);
  fs::remove_all(path_, ignored);
}

SilencedOutput::SilencedOutput() {
  open_log();
  program_ = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
  if (program_ < 0)
    program_ = open("/dev/null", O_WRONLY | O_CLOEXEC);  // the program was started with standard output closed
}

void SilencedOutput::open_log() {
  int log = -1;
#ifdef O_TMPFILE
  // never has a name, so a signal at any moment leaves nothing behind
  log = open(fs::temp_directory_path().c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
#endif
  if (log < 0) {  // not every file system has unnamed files
    std::vector<char> name = temporary_name();
    log = mkostemp(name.data(), O_CLOEXEC);
    if (log < 0) fail("log file " + std::string(name.data()) + " (set TMPDIR)");
    unlink(name.data());
  }
  if (log_ >= 0) close(log_);
  log_ = log;
  owner_ = getpid();
}

SilencedOutput::~SilencedOutput() {
  close(program_);
  close(log_);
}

SilencedOutput::Section::Section(SilencedOutput& output) : output_(output) {
  if (output_.owner_ != getpid()) output_.open_log();  // forked processes share the file offset
  flush_output();
  if (dup2(output_.log_, STDOUT_FILENO) < 0) fail("standard output");
}

SilencedOutput::Section::~Section() {
  flush_output();
  // A long run must not fill the disk: the last megabyte is enough to explain an error.
  constexpr off_t max_log_bytes = 1 << 20;
  if (lseek(output_.log_, 0, SEEK_CUR) > max_log_bytes && ftruncate(output_.log_, 0) == 0)
    lseek(output_.log_, 0, SEEK_SET);
  dup2(output_.program_, STDOUT_FILENO);
}

std::string SilencedOutput::tail(std::size_t bytes) const {
  flush_output();
  const off_t end = lseek(log_, 0, SEEK_END);
  const off_t begin = std::max<off_t>(0, end - static_cast<off_t>(bytes));
  std::string text(static_cast<std::size_t>(end - begin), '\0');
  const ssize_t got = pread(log_, text.data(), text.size(), begin);
  text.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
  return text;
}

}  // namespace sherpa_tau
