// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: GPL-3.0-or-later

#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <exception>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "local.hpp"
#include "model.hpp"
#include "ppx/ppx.hpp"
#include "run_config.hpp"

namespace {

constexpr const char* usage =
    R"(usage: sherpa_tau ENDPOINT --config FILE        serve tau decays over PPX, e.g. at ipc:///tmp/tau or tcp://127.0.0.1:5555
                                                      --workers N: from N processes; worker i at ENDPOINT.i or port + i
                                                      --pin: worker i keeps to core i, modulo their number
       sherpa_tau --local N --config FILE [--seed S]  run without inference: N events, one line of JSON per event
       sherpa_tau --channels --config FILE            list the decay channels: index, probability, name
       sherpa_tau --help

FILE holds lines "key value..."; `etalumis simulator config` writes one. S is the seed of the first event (default 1),
event i takes S + i. Serving ends on SIGTERM or SIGINT. With --no-calorimeter nothing is observed (for measuring).
)";

// An error in the command line.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Arguments {
  bool help = false;
  bool channels = false;
  std::string endpoint;
  std::string config;
  bool calorimeter = true;
  std::optional<std::uint64_t> events;
  std::uint64_t seed = 1;
  unsigned workers = 0;  // 0: serve from this process
  bool pin = false;
};

std::uint64_t parse_count(std::string_view option, std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw UsageError(std::string(option) + ": expected a whole number, found '" + std::string(text) + "'");
  }
  return value;
}

unsigned parse_workers(std::string_view option, std::string_view text) {
  const std::uint64_t count = parse_count(option, text);
  if (count < 1 || count > 10000) throw UsageError(std::string(option) + ": expected 1 to 10000");
  return static_cast<unsigned>(count);
}

Arguments parse(const std::vector<std::string_view>& words) {
  Arguments arguments;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string_view word = words[i];
    const auto value = [&]() {
      if (i + 1 == words.size()) throw UsageError(std::string(word) + ": a value is missing");
      return words[++i];
    };
    if (word == "--help" || word == "-h") {
      arguments.help = true;
    } else if (word == "--config") {
      arguments.config = value();
    } else if (word == "--no-calorimeter") {
      arguments.calorimeter = false;
    } else if (word == "--local") {
      arguments.events = parse_count(word, value());
    } else if (word == "--seed") {
      arguments.seed = parse_count(word, value());
    } else if (word == "--workers") {
      arguments.workers = parse_workers(word, value());
    } else if (word == "--pin") {
      arguments.pin = true;
    } else if (word == "--channels") {
      arguments.channels = true;
    } else if (word.substr(0, 1) == "-" || !arguments.endpoint.empty()) {
      throw UsageError("unknown argument '" + std::string(word) + "'");
    } else {
      arguments.endpoint = word;
    }
  }
  if (arguments.help) return arguments;
  if (arguments.config.empty()) throw UsageError("--config FILE is missing");
  const int modes = (arguments.endpoint.empty() ? 0 : 1) + (arguments.events ? 1 : 0) + (arguments.channels ? 1 : 0);
  if (modes != 1) throw UsageError("expected exactly one of ENDPOINT, --local N, --channels");
  return arguments;
}

volatile std::sig_atomic_t stop = 0;

extern "C" void request_stop(int /*signal*/) { stop = 1; }

void serve(sherpa_tau::TauDecay& model, const Arguments& arguments) {
  struct sigaction action = {};
  action.sa_handler = request_stop;  // no SA_RESTART: the signal must interrupt a blocking wait
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  ppx::ServeOptions options;
  options.endpoint = arguments.endpoint;
  options.stop = &stop;
  if (arguments.workers > 0) {
    ppx::serve_workers(model, options, arguments.workers, arguments.pin);
  } else {
    ppx::serve(model, options);
  }
}

void run(const Arguments& arguments) {
  const sherpa_tau::RunConfig config = sherpa_tau::read_config(arguments.config);
  ppx::set_sites(ppx::SiteTable::load(config.sites.string()));
  sherpa_tau::TauDecay model(config, arguments.calorimeter);
  if (arguments.events) {
    sherpa_tau::run_events(model, *arguments.events, arguments.seed, std::cout);
  } else if (arguments.channels) {
    sherpa_tau::list_channels(model, std::cout);
  } else {
    serve(model, arguments);
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Arguments arguments = parse({argv + 1, argv + argc});
    if (arguments.help) {
      std::cout << usage;
      return 0;
    }
    run(arguments);
    return 0;
  } catch (const UsageError& error) {
    std::cerr << "sherpa_tau: " << error.what() << "\n" << usage;
    return 2;
  } catch (const std::exception& error) {
    std::cerr << "sherpa_tau: " << error.what() << "\n";
    return 1;
  }
}
