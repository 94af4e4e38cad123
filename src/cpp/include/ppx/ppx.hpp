// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// PPX front end (SC'19, Section 4.1): puts the random draws of a simulator under the control of an inference engine.
//
// A simulator derives from `ppx::Model`, draws with `ppx::sample`, states its likelihood with `ppx::observe`, and is
// then either served to an inference engine over ZeroMQ (`ppx::serve`) or run alone (`ppx::run_local`).
// `sample`, `observe` and `tag` belong to the run of the calling thread: `forward` must draw on the thread it was
// called on. Outside any run `sample` draws from a generator of the thread's own with a fixed seed, and `observe` and
// `tag` do nothing, so that code shared with a set-up phase needs no special cases.
#ifndef PPX_PPX_HPP
#define PPX_PPX_HPP

#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace ppx {

// ---------------------------------------------------------------------------------------------------- values

/// Row-major array of doubles. A scalar has an empty shape and one datum; empty `data` means None.
struct Tensor {
  std::vector<double> data;
  std::vector<std::int32_t> shape;

  Tensor() = default;
  Tensor(double scalar);  // NOLINT: implicit on purpose, `Normal{0.0, 1.0}` is how models are written
  /// Throws std::invalid_argument when the shape's product is not the number of data.
  Tensor(std::vector<double> values, std::vector<std::int32_t> dimensions);
};

// ---------------------------------------------------------------------------------------------------- distributions

struct Normal {
  Tensor mean, stddev;
};
/// Uniform on [low, high).
struct Uniform {
  Tensor low, high;
};
/// On 0, 1, ..., K - 1; `probs` has K entries and need not be normalised.
struct Categorical {
  Tensor probs;
};
struct Poisson {
  Tensor rate;
};
struct Bernoulli {
  Tensor probs;
};
/// Density proportional to x^(concentration1 - 1) (1 - x)^(concentration0 - 1).
struct Beta {
  Tensor concentration1, concentration0;
};
struct Exponential {
  Tensor rate;
};
/// Mean concentration / rate.
struct Gamma {
  Tensor concentration, rate;
};
/// exp of a Normal(loc, scale).
struct LogNormal {
  Tensor loc, scale;
};
struct Binomial {
  Tensor total_count, probs;
};
/// Distribution function 1 - exp(-(x / scale)^concentration).
struct Weibull {
  Tensor scale, concentration;
};

using Distribution = std::variant<Normal, Uniform, Categorical, Poisson, Bernoulli, Beta, Exponential, Gamma, LogNormal,
                                  Binomial, Weibull>;

/// The wire's name of the distribution, e.g. "Normal".
std::string_view distribution_name(const Distribution& distribution);

// ---------------------------------------------------------------------------------------------------- errors

/// Base of all errors of this library.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};
/// The inference side said what the protocol does not allow. Inside a run it unwinds `forward` and ends that run only.
class ProtocolError : public Error {
 public:
  using Error::Error;
};
/// The socket could not be opened, bound or used.
class TransportError : public Error {
 public:
  using Error::Error;
};
/// A distribution's parameters are outside its domain, or not of one datum where a scalar is drawn.
class ParameterError : public Error {
 public:
  using Error::Error;
};
/// A site table cannot be read.
class SiteTableError : public Error {
 public:
  using Error::Error;
};
/// `Model::forward` threw; carries the model's name, its message and the last address (nested: the original).
class ModelError : public Error {
 public:
  using Error::Error;
};

// ---------------------------------------------------------------------------------------------------- statements

/// One scalar draw. `control = false`: drawn from the prior, never proposed by inference.
/// Throws ParameterError; inside a served run ProtocolError or an internal signal that ends the run (let it pass:
/// catch std::exception by all means, but do not swallow `catch (...)`).
double sample(const Distribution& distribution, bool control = true, std::string_view name = {});

/// Conditions the run on an observation. Without `value` the inference side supplies it by name, or samples it.
void observe(const Distribution& distribution, std::string_view name,
             const std::optional<Tensor>& value = std::nullopt);

/// Records a quantity that inference neither steers nor conditions on.
void tag(std::string_view name, const Tensor& value);

/// One execution of a rejection loop, for loops that can be edited:
///
///     ppx::RejectionScope scope;
///     while (rejected(draws())) scope.repeat();
///
/// The constructor enters, `repeat` starts every repetition but the first, the destructor leaves. All draws made inside
/// are sent as replaced, with the scope's running number in the run and the repetition. Of nested scopes the
/// outermost wins. Has no effect outside a run. Loops that cannot be edited: see `SiteTable`.
class RejectionScope {
 public:
  RejectionScope();
  ~RejectionScope();
  RejectionScope(const RejectionScope&) = delete;
  RejectionScope& operator=(const RejectionScope&) = delete;
  void repeat();

 private:
  std::uint64_t run_;  // the run it was entered in; 0 = none, or nested
};

// ---------------------------------------------------------------------------------------------------- site table

enum class SiteRuleKind { scope, uncontrolled, controlled, adapter };

struct SiteRule {
  SiteRuleKind kind;
  std::string pattern;
};

/// Says by call stack which draws are controlled and which belong to a rejection loop. A text file, one rule a line,
/// `#` starts a comment:
///
///     scope PATTERN         the function holds a loop `do { draws } while (test draw rejects)`; replaced
///     uncontrolled PATTERN  draws below the function are drawn from the prior
///     controlled PATTERN    draws below the function are controlled
///     adapter PATTERN       innermost frames of the function are plumbing and left out of the address
///
/// PATTERN is a glob (`*` = any run of characters) over a frame's demangled function name without return type,
/// argument list and offset, e.g. `ATOOLS::Random::*`. Only exported functions have names (programs are linked with
/// -rdynamic; nothing in anonymous namespaces, no `static`); other frames have their module's file name instead.
/// A rule matches a draw if it matches any frame of its stack (adapter: all innermost frames up to the first that does
/// not match). The first matching `uncontrolled` or `controlled` rule wins over what the call said.
///
/// Scope: a draw whose innermost frame is the scope's function is its acceptance test and ends a repetition. A draw
/// elsewhere, or below another call of the function (other frames outside it), ends the scope. Of nested scopes the
/// outermost wins. Two executions that follow each other from one call site without any draw between them cannot be
/// told apart from one longer loop: use `RejectionScope` for such a loop.
class SiteTable {
 public:
  SiteTable() = default;
  explicit SiteTable(std::vector<SiteRule> rules) : rules_(std::move(rules)) {}

  /// Throws SiteTableError with file, line, what was expected and what was found.
  static SiteTable load(const std::string& path);
  static SiteTable parse(std::string_view text, const std::string& origin);

  const std::vector<SiteRule>& rules() const { return rules_; }

 private:
  std::vector<SiteRule> rules_;
};

/// Sets the process's site table. Takes effect at the next run of each thread.
void set_sites(SiteTable table);

// ---------------------------------------------------------------------------------------------------- running

struct Model {
  virtual ~Model();
  virtual std::string name() const = 0;
  /// One run of the simulator; the result may be empty (None).
  virtual Tensor forward() = 0;
};

struct ServeOptions {
  std::string endpoint;                                   // e.g. "ipc:///tmp/sim.ipc", "tcp://127.0.0.1:5555"
  std::string system_name = "etalumis";                   // told to the inference side
  const volatile std::sig_atomic_t* stop = nullptr;       // serve returns soon after it becomes non-zero
  std::chrono::milliseconds idle_timeout{0};              // serve returns after so long without a message; 0 = never
  std::function<void(const std::string&)> on_bound = {};  // called with the resolved endpoint once it is bound
};

/// Serves the model until told to stop. Anything unexpected on the wire is answered with Reset, a run under way is
/// abandoned (`forward` is unwound), and serving goes on; a Handshake in the middle of a run starts afresh.
/// Throws TransportError when the endpoint cannot be bound, and ModelError when `forward` throws: PPX has no error
/// message, so a program should write what() to standard error and exit with 1 for the client to report.
void serve(Model& model, const ServeOptions& options);

/// Serves the model from `workers` processes that are forked from this one, which has set the model up once. Worker i
/// listens at `options.endpoint` with ".i" appended to an ipc path, or with i added to a tcp port; its working
/// directory and TMPDIR are a folder of its own, removed at the end; `system_name` ends in "worker i (pid p)". Until it
/// is told to stop, this process waits: a worker that ends is reported on standard error ("worker 3 (pid 123) was
/// killed by SIGKILL") and forked anew; the model must not have been run in this process, so that each worker is as a
/// fresh start. With `pin`, worker i keeps to the i-th core that this process may use, modulo their number. No worker
/// outlives this process (Linux). Call it on the main thread, before any other thread, or ZeroMQ context, is made.
/// Throws TransportError where the endpoint allows no neighbours, and Error when a worker ends before it serves, again
/// and again; errors of a worker's own (ModelError) end that worker alone.
void serve_workers(Model& model, const ServeOptions& options, unsigned workers, bool pin = false);

/// What a sink sees of one statement. Views are valid during the call only.
struct Event {
  enum class Kind { sample, observe, tag };
  Kind kind;
  std::string_view address;
  std::string_view name;
  const Distribution* distribution;  // null for tags
  const Tensor* value;               // of a draw, an observation (given or sampled) or a tag
  bool control;
  bool replace;
  std::uint32_t scope;       // running number of the rejection scope in this run, 0 = none
  std::uint32_t repetition;  // of that scope, from 0
};
using Sink = std::function<void(const Event&)>;
/// May decide a draw of a local run: gets the event (its value null), returns a value, or nothing for a draw from the
/// prior.
using Steer = std::function<std::optional<double>(const Event&)>;

/// One run without an inference side: draws locally, reproducibly from the seed. Exceptions of the model pass through.
Tensor run_local(Model& model, std::uint64_t seed, const Sink& sink = {}, const Steer& steer = {});

}  // namespace ppx

#endif  // PPX_PPX_HPP
