// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// PPX front end (SC'19, Section 4.1): puts the random draws of a simulator under the control of an inference engine.
//
// A simulator derives from `ppx::Model`, draws with `ppx::sample` and defines its likelihood with `ppx::observe`. It is
// either served to an inference engine over ZeroMQ (`ppx::serve`) or run locally (`ppx::run_local`).
// `sample`, `observe` and `tag` belong to the run of the calling thread: `forward` must draw on the thread on which it
// was called. Outside a run, `sample` draws from a thread-local generator with a fixed seed, and `observe` and `tag` do
// nothing, so that the same code can be used during initialisation.
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
  Tensor(double scalar);  // NOLINT: implicit, so that models can write `Normal{0.0, 1.0}`
  /// Throws std::invalid_argument if the product of the dimensions is not the number of values.
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

/// Number of successes of probability `probs` before `total_count` failures; `total_count` need not be whole.
struct NegativeBinomial {
  Tensor total_count, probs;
};
/// loc + scale t, t of Student's distribution with `df` degrees of freedom.
struct StudentT {
  Tensor df, loc, scale;
};

/// The last two are not part of PPX 1.0: drawing from them throws ProtocolError if the inference side is older.
using Distribution = std::variant<Normal, Uniform, Categorical, Poisson, Bernoulli, Beta, Exponential, Gamma, LogNormal,
                                  Binomial, Weibull, NegativeBinomial, StudentT>;

/// The name of the distribution in PPX, e.g. "Normal".
std::string_view distribution_name(const Distribution& distribution);

// ---------------------------------------------------------------------------------------------------- errors

/// Base of all errors of this library.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};
/// The inference side violated the protocol. During a run, this exception unwinds `forward` and ends that run only.
class ProtocolError : public Error {
 public:
  using Error::Error;
};
/// The socket could not be opened, bound or used.
class TransportError : public Error {
 public:
  using Error::Error;
};
/// A parameter of a distribution is outside its domain, or is not a scalar in a sample statement.
class ParameterError : public Error {
 public:
  using Error::Error;
};
/// A site table cannot be read.
class SiteTableError : public Error {
 public:
  using Error::Error;
};
/// `Model::forward` threw an exception. The message has the name of the model, the error and the last address; the
/// original exception is nested.
class ModelError : public Error {
 public:
  using Error::Error;
};

// ---------------------------------------------------------------------------------------------------- statements

/// Draws a scalar. With `control = false` it is drawn from the prior and never proposed by inference.
/// Throws ParameterError; in a served run also ProtocolError or an internal exception that ends the run. That exception
/// is not a std::exception: models may catch std::exception, but must rethrow in `catch (...)`.
double sample(const Distribution& distribution, bool control = true, std::string_view name = {});

/// Draws a tensor of independent elements: `sample_tensor(Normal{{means, {8}}, 0.1}, true, "theta")`. A parameter with
/// one value applies to all elements; the others must have the same shape. The last axis of a Categorical has the
/// categories. Each element is a draw of its own, with its index in address and name ("theta[0]", "theta[1]", ...), so
/// that older peers see scalars. Throws as `sample`.
Tensor sample_tensor(const Distribution& distribution, bool control = true, std::string_view name = {});

/// Conditions the run on an observation. Without `value`, the inference side supplies it by name, or samples it.
void observe(const Distribution& distribution, std::string_view name,
             const std::optional<Tensor>& value = std::nullopt);

/// Records a quantity that inference neither controls nor conditions on.
void tag(std::string_view name, const Tensor& value);

/// One execution of a rejection loop, for simulators whose source can be edited:
///
///     ppx::RejectionScope scope;
///     while (rejected(draws())) scope.repeat();
///
/// The constructor enters the scope, `repeat` begins every repetition but the first, the destructor leaves the scope.
/// All draws in it are sent as replaced, with the number of the scope in the run and the repetition. Only the outermost
/// of nested scopes counts. Has no effect outside a run. For loops in other code, see `SiteTable`.
class RejectionScope {
 public:
  RejectionScope();
  ~RejectionScope();
  RejectionScope(const RejectionScope&) = delete;
  RejectionScope& operator=(const RejectionScope&) = delete;
  void repeat();

 private:
  std::uint64_t run_;  // the run in which the scope was entered; 0: none, or nested
};

// ---------------------------------------------------------------------------------------------------- site table

enum class SiteRuleKind { scope, uncontrolled, controlled, adapter };

struct SiteRule {
  SiteRuleKind kind;
  std::string pattern;
};

/// Rules that decide by call stack which draws are controlled and which belong to a rejection loop. A text file with
/// one rule per line; `#` starts a comment:
///
///     scope PATTERN         the function contains a loop `do { draws } while (test draw rejects)`; replaced
///     uncontrolled PATTERN  draws below the function are drawn from the prior
///     controlled PATTERN    draws below the function are controlled
///     adapter PATTERN       innermost frames of the function are omitted from the address
///
/// PATTERN is a glob (`*` matches any characters) for the demangled function name of a frame, without return type,
/// arguments and offset, e.g. `ATOOLS::Random::*`. Only exported functions have names: link with -rdynamic, and do not
/// use `static` or anonymous namespaces. Other frames have the file name of their module instead.
/// A rule matches a draw if it matches any frame of its stack (adapter: all innermost frames up to the first that does
/// not match). The first matching `uncontrolled` or `controlled` rule overrides the argument of the call.
///
/// Scope: a draw whose innermost frame is the function of the scope is the acceptance test and ends a repetition. A
/// draw elsewhere, or below another call of the function (with other outer frames), ends the scope. Only the outermost
/// of nested scopes counts. Two executions in a row from one call site, without a draw between them, look like one
/// longer loop: use `RejectionScope` in such a case.
class SiteTable {
 public:
  SiteTable() = default;
  explicit SiteTable(std::vector<SiteRule> rules) : rules_(std::move(rules)) {}

  /// Throws SiteTableError with file, line, expected and found text.
  static SiteTable load(const std::string& path);
  static SiteTable parse(std::string_view text, const std::string& origin);

  const std::vector<SiteRule>& rules() const { return rules_; }

 private:
  std::vector<SiteRule> rules_;
};

/// Sets the site table of the process, for the next run of each thread.
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
  std::string system_name = "etalumis";                   // sent to the inference side
  const volatile std::sig_atomic_t* stop = nullptr;       // serve returns soon after it becomes non-zero
  std::chrono::milliseconds idle_timeout{0};              // serve returns after this time without a message; 0 = never
  std::function<void(const std::string&)> on_bound = {};  // called with the resolved endpoint once it is bound
};

/// Serves the model until `options.stop` is set. An unexpected message abandons the run (`forward` is unwound) and is
/// answered with Reset; a Handshake during a run abandons it and begins a new session.
/// Throws TransportError if the endpoint cannot be bound, and ModelError if `forward` throws. PPX has no error message:
/// a program should write what() to standard error and exit with code 1, so that the client can report the error.
void serve(Model& model, const ServeOptions& options);

/// Serves the model from `workers` processes, which are forked from this one after it has initialised the model. Worker
/// i listens on `options.endpoint` with ".i" appended to an ipc path, or with i added to a tcp port. Its working
/// directory and TMPDIR are a private folder, which is removed at the end. Its `system_name` ends in "worker i (pid
/// p)". This process waits until `options.stop` is set. It reports a worker that ends on standard error ("worker 3 (pid
/// 123) was killed by SIGKILL") and forks a replacement. The model must not have been run in this process, so that all
/// workers begin in the same state. With `pin`, worker i is pinned to the i-th core that this process may use, modulo
/// their number. No worker outlives this process (Linux). Call it on the main thread, before the program creates other
/// threads or a ZeroMQ context.
/// Throws TransportError if the endpoint does not allow several workers, and Error if a worker repeatedly ends before
/// it serves. An error in a worker (ModelError) ends that worker only.
void serve_workers(Model& model, const ServeOptions& options, unsigned workers, bool pin = false);

/// One statement, as passed to a sink. Views are valid only during the call.
struct Event {
  enum class Kind { sample, observe, tag };
  Kind kind;
  std::string_view address;
  std::string_view name;
  const Distribution* distribution;  // null for tags
  const Tensor* value;               // of a draw, an observation (given or sampled) or a tag
  bool control;
  bool replace;
  std::uint32_t scope;       // number of the rejection scope in this run, from 1; 0 = none
  std::uint32_t repetition;  // of that scope, from 0
};
using Sink = std::function<void(const Event&)>;
/// Controls draws of a local run: receives the event (with a null value); returns a value, or nothing to draw from the
/// prior.
using Steer = std::function<std::optional<double>(const Event&)>;

/// Runs the model once without an inference side; the draws depend only on the seed. Passes on exceptions of the model.
Tensor run_local(Model& model, std::uint64_t seed, const Sink& sink = {}, const Steer& steer = {});

}  // namespace ppx

#endif  // PPX_PPX_HPP
