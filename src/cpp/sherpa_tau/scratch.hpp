// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: GPL-3.0-or-later

#ifndef ETALUMIS_SHERPA_TAU_SCRATCH_HPP
#define ETALUMIS_SHERPA_TAU_SCRATCH_HPP

#include <sys/types.h>

#include <filesystem>
#include <string>

namespace sherpa_tau {

// A private directory under TMPDIR, made the working directory for as long as this lives and then removed with all that
// is in it. Sherpa reads its run card from, and scatters files over, the working directory.
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

// A file that takes what Sherpa writes to standard output: its banners and progress must not mix with the program's own
// lines. It has no name, so it is gone with the process. A fork of the process gets a file of its own with its first
// section. Standard error is left alone.
class SilencedOutput {
 public:
  SilencedOutput();
  ~SilencedOutput();
  SilencedOutput(const SilencedOutput&) = delete;
  SilencedOutput& operator=(const SilencedOutput&) = delete;

  // Standard output goes to the file for as long as a section lives.
  class Section {
   public:
    explicit Section(SilencedOutput& output);
    ~Section();
    Section(const Section&) = delete;
    Section& operator=(const Section&) = delete;

   private:
    SilencedOutput& output_;
  };

  // What was written last: up to `bytes`.
  std::string tail(std::size_t bytes) const;

 private:
  void open_log();

  int program_ = -1;  // the standard output outside sections
  int log_ = -1;
  pid_t owner_ = 0;  // whose log it is
};

}  // namespace sherpa_tau

#endif
