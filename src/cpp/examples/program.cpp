// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include "program.hpp"

#include <csignal>
#include <iomanip>
#include <iostream>
#include <limits>
#include <stdexcept>
#include <vector>

#include "measure.hpp"

namespace {

volatile std::sig_atomic_t stop_requested = 0;

extern "C" void request_stop(int) { stop_requested = 1; }

struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

using OwnOptions = std::map<std::string, OwnOption>;

std::string usage(const std::string& program, const std::string& description, const OwnOptions& own) {
  std::string text = "usage: " + program + " [ENDPOINT] [options]\n\n" + description +
                     "\n\n"
                     "  ENDPOINT            where to serve PPX: ipc:///path or tcp://address:port\n"
                     "                      (default tcp://127.0.0.1:5555)\n"
                     "  --local N           run N times without an inference side; print one result per line\n"
                     "  --measure S         run for S seconds without an inference side, recording addresses; print\n"
                     "                      the number of runs as a line of JSON\n"
                     "  --seed S            seed of the first local run (default 0); run i has seed S + i\n"
                     "  --entries           print every statement of local runs\n"
                     "  --sites FILE        site table: controlled draws and rejection scopes\n"
                     "  --idle-timeout S    stop serving after S seconds without a message (default: never)\n"
                     "  --workers N         serve from N processes: worker i at ENDPOINT.i (ipc) or port + i (tcp)\n"
                     "  --pin               pin worker i to core i, modulo the number of cores\n";
  for (const auto& [name, option] : own) {
    std::string left = "  --" + name + (option.value_word.empty() ? "" : " " + option.value_word);
    if (left.size() < 22) left.resize(22, ' ');
    text += left + option.help + "\n";
  }
  return text;
}

std::uint64_t to_number(const std::string& option, const std::string& text) {
  if (text.empty() || text.size() > 19 || text.find_first_not_of("0123456789") != std::string::npos) {
    throw UsageError(option + " expects a number >= 0, found `" + text + "`");
  }
  return std::stoull(text);
}

double to_seconds(const std::string& option, const std::string& text) {
  std::size_t used = 0;
  double value = -1.0;
  try {
    value = std::stod(text, &used);
  } catch (const std::logic_error&) {  // not a number, or out of range: reported below
    used = 0;
  }
  if (used != text.size() || !(value >= 0.0 && value < 1e6)) {
    throw UsageError(option + " expects seconds, found `" + text + "`");
  }
  return value;
}

Arguments parse(const std::vector<std::string>& words, const OwnOptions& own) {
  Arguments arguments;
  bool endpoint_given = false;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    const auto value = [&]() -> const std::string& {
      if (i + 1 == words.size()) throw UsageError(word + " expects a value");
      return words[++i];
    };
    const auto own_option = word.rfind("--", 0) == 0 ? own.find(word.substr(2)) : own.end();
    if (word == "--local") {
      arguments.local_runs = to_number(word, value());
      if (arguments.local_runs == 0) throw UsageError("--local expects a number > 0");
    } else if (word == "--measure") {
      arguments.measured_s = to_seconds(word, value());
    } else if (word == "--seed") {
      arguments.seed = to_number(word, value());
    } else if (word == "--entries") {
      arguments.entries = true;
    } else if (word == "--sites") {
      arguments.sites = value();
    } else if (word == "--idle-timeout") {
      arguments.idle_timeout_s = to_seconds(word, value());
    } else if (word == "--workers") {
      arguments.workers = to_number(word, value());
      if (arguments.workers == 0 || arguments.workers > 10000) throw UsageError("--workers expects 1 to 10000");
    } else if (word == "--pin") {
      arguments.pin = true;
    } else if (own_option != own.end()) {
      arguments.own[own_option->first] = own_option->second.value_word.empty() ? "yes" : value();
    } else if (word.rfind("-", 0) == 0 || endpoint_given) {
      throw UsageError("unknown argument `" + word + "`");
    } else {
      arguments.endpoint = word;
      endpoint_given = true;
    }
  }
  return arguments;
}

void print(const ppx::Tensor& tensor) {
  for (std::size_t i = 0; i < tensor.data.size(); ++i) std::cout << (i == 0 ? "" : " ") << tensor.data[i];
}

void print(const ppx::Event& event) {
  static constexpr const char* kinds[] = {"sample", "observe", "tag"};
  std::cout << kinds[static_cast<int>(event.kind)] << '\t' << event.address << '\t' << event.name << '\t'
            << (event.distribution != nullptr ? ppx::distribution_name(*event.distribution) : "") << '\t'
            << event.control << '\t' << event.scope << '\t' << event.repetition << '\t';
  print(*event.value);
  std::cout << '\n';
}

void run_locally(ppx::Model& model, const Arguments& arguments) {
  std::cout << std::setprecision(std::numeric_limits<double>::max_digits10);
  const ppx::Sink sink = arguments.entries ? ppx::Sink([](const ppx::Event& event) { print(event); }) : ppx::Sink();
  for (std::uint64_t i = 0; i < arguments.local_runs && stop_requested == 0; ++i) {
    const ppx::Tensor result = ppx::run_local(model, arguments.seed + i, sink);
    if (arguments.entries) std::cout << "result\t";
    print(result);
    std::cout << '\n';
  }
}

void serve(ppx::Model& model, const Arguments& arguments) {
  ppx::ServeOptions options;
  options.endpoint = arguments.endpoint;
  options.system_name = "etalumis C++ examples";
  options.stop = &stop_requested;
  options.idle_timeout = std::chrono::milliseconds(static_cast<std::int64_t>(1000.0 * arguments.idle_timeout_s));
  options.on_bound = [](const std::string& endpoint) { std::cerr << "serving at " << endpoint << '\n'; };
  if (arguments.workers > 0) {
    ppx::serve_workers(model, options, static_cast<unsigned>(arguments.workers), arguments.pin);
  } else {
    ppx::serve(model, options);
  }
}

}  // namespace

int run_program(int argc, char** argv, const std::string& description, const std::map<std::string, OwnOption>& own,
                const MakeModel& make_model) {
  const std::string program = argc > 0 ? argv[0] : "example";
  const std::vector<std::string> words(argv + (argc > 0 ? 1 : 0), argv + argc);
  for (const std::string& word : words) {
    if (word != "--help" && word != "-h") continue;
    std::cout << usage(program, description, own);
    return 0;
  }
  std::signal(SIGTERM, request_stop);
  std::signal(SIGINT, request_stop);
  try {
    Arguments arguments = parse(words, own);
    if (!arguments.sites.empty()) ppx::set_sites(ppx::SiteTable::load(arguments.sites));
    const std::unique_ptr<ppx::Model> model = make_model(arguments);
    if (arguments.measured_s) {
      measure_local(*model, *arguments.measured_s, arguments.seed, std::cout);
    } else if (arguments.local_runs > 0) {
      run_locally(*model, arguments);
    } else {
      serve(*model, arguments);
    }
  } catch (const UsageError& error) {
    std::cerr << program << ": " << error.what() << "; see " << program << " --help\n";
    return 2;
  } catch (const std::exception& error) {
    std::cerr << program << ": " << error.what() << '\n';
    return 1;
  }
  return 0;
}
