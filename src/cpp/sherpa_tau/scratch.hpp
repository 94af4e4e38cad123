// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: GPL-3.0-or-later

#ifndef ETALUMIS_SHERPA_TAU_SCRATCH_HPP
#define ETALUMIS_SHERPA_TAU_SCRATCH_HPP

#include <sys/types.h>

#include <filesystem>
#include <string>

namespace sherpa_tau {

// A private directory under TMPDIR, which is the working directory during the lifetime of the object and is then
// removed with its content. Sherpa reads its run card from the working directory and writes files there.
class ScratchDirectory {
 public:
  ScratchDirectory();
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path home_;
  std::filesystem::path path_;
};

// An unnamed file for Sherpa's standard output, whose banners and progress must not mix with the program's own lines.
// It disappears with the process. A forked process opens a file of its own in its first section. Standard error is not
// redirected.
class SilencedOutput {
 public:
  SilencedOutput();
  ~SilencedOutput();
  SilencedOutput(const SilencedOutput&) = delete;
  SilencedOutput& operator=(const SilencedOutput&) = delete;

  // Redirects standard output to the file during the lifetime of the object.
  class Section {
   public:
    explicit Section(SilencedOutput& output);
    ~Section();
    Section(const Section&) = delete;
    Section& operator=(const Section&) = delete;

   private:
    SilencedOutput& output_;
  };

  // Returns the last `bytes` bytes of the output, or fewer.
  std::string tail(std::size_t bytes) const;

 private:
  void open_log();

  int program_ = -1;  // the standard output outside sections
  int log_ = -1;
  pid_t owner_ = 0;  // process that opened the file
};

}  // namespace sherpa_tau

#endif
