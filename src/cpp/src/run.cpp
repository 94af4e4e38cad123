// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include "run.hpp"

#include "draw.hpp"
#include "elements.hpp"

namespace ppx {
namespace detail {
namespace {

// Thread-local, so that simulators can run in several threads.
thread_local Run* current_run = nullptr;
thread_local std::uint64_t run_count = 0;

AddressTable& thread_addresses() {
  thread_local AddressTable table;
  return table;
}

}  // namespace

Run::Run(Peer& peer, std::size_t known_distributions)
    : peer_(peer), known_distributions_(known_distributions), previous_(current_run), id_(++run_count) {
  // A nested run uses the sites of the outer one: keep them.
  if (previous_ == nullptr) thread_addresses().refresh();
  current_run = this;
}

Run::~Run() { current_run = previous_; }

Run* Run::current() { return current_run; }

[[gnu::noinline]] Tensor Run::forward(Model& model) {
  outer_ = __builtin_frame_address(0);
  Tensor result = model.forward();
  // Prevents a tail call, which would remove the frame at which stacks end.
  asm volatile("" : : "r"(&result) : "memory");
  return result;
}

const Site& Run::locate(const void* frame) {
  capture(frame, outer_, stack_);
  site_ = &thread_addresses().find(stack_);
  return *site_;
}

double Run::sample(const Distribution& distribution, bool control, std::string_view name, const void* frame) {
  const Site& site = locate(frame);  // before the check, whose error reports the last address
  check_known(distribution);
  check_scalar_parameters(distribution);
  const Placement placement = scopes_.place(site, stack_);
  return peer_.sample({Event::Kind::sample, site.address, name, &distribution, nullptr, site.control.value_or(control),
                       placement.scope != 0, placement.scope, placement.repetition},
                      site);
}

Tensor Run::sample_tensor(const Distribution& distribution, bool control, std::string_view name, const void* frame) {
  const Site& site = locate(frame);
  check_known(distribution);
  const auto shape = check_tensor_parameters(distribution);
  const Placement placement = scopes_.place(site, stack_);  // one statement: at most one test of a rejection loop
  const Elements& elements = thread_addresses().elements(site, shape);
  std::vector<double> values;
  for (std::size_t i = 0; i < elements.site.size(); ++i) {
    const Site& element = *elements.site[i];
    const Distribution prior = element_distribution(distribution, i);
    const std::string full_name = name.empty() ? std::string() : std::string(name) + elements.index[i];
    values.push_back(
        peer_.sample({Event::Kind::sample, element.address, full_name, &prior, nullptr,
                      element.control.value_or(control), placement.scope != 0, placement.scope, placement.repetition},
                     element));
  }
  return {std::move(values), shape};
}

void Run::observe(const Distribution& distribution, std::string_view name, const Tensor* value, const void* frame) {
  const Site& site = locate(frame);
  check_known(distribution);
  check_parameters(distribution);
  peer_.observe({Event::Kind::observe, site.address, name, &distribution, value, true, false, 0, 0}, site);
}

void Run::check_known(const Distribution& distribution) const {
  if (distribution.index() < known_distributions_) return;
  throw ProtocolError("ppx: the inference side does not know the distribution " +
                      std::string(distribution_name(distribution)) +
                      ", which is not part of PPX 1.0; use a newer version of etalumis there");
}

void Run::tag(std::string_view name, const Tensor& value, const void* frame) {
  const Site& site = locate(frame);
  peer_.tag({Event::Kind::tag, site.address, name, nullptr, &value, true, false, 0, 0}, site);
}

}  // namespace detail

// The functions below must not be inlined: their frame addresses separate the frames of the front end from those of the
// simulator.

[[gnu::noinline]] double sample(const Distribution& distribution, bool control, std::string_view name) {
  if (detail::Run* run = detail::Run::current()) {
    return run->sample(distribution, control, name, __builtin_frame_address(0));
  }
  thread_local detail::Generator outside_runs(0);
  detail::check_scalar_parameters(distribution);
  return detail::draw_scalar(distribution, outside_runs);
}

[[gnu::noinline]] Tensor sample_tensor(const Distribution& distribution, bool control, std::string_view name) {
  if (detail::Run* run = detail::Run::current()) {
    return run->sample_tensor(distribution, control, name, __builtin_frame_address(0));
  }
  thread_local detail::Generator outside_runs(0);
  detail::check_tensor_parameters(distribution);
  return detail::draw_tensor(distribution, outside_runs);
}

[[gnu::noinline]] void observe(const Distribution& distribution, std::string_view name,
                               const std::optional<Tensor>& value) {
  detail::Run* run = detail::Run::current();
  if (run == nullptr) return;
  run->observe(distribution, name, value ? &*value : nullptr, __builtin_frame_address(0));
}

[[gnu::noinline]] void tag(std::string_view name, const Tensor& value) {
  if (detail::Run* run = detail::Run::current()) run->tag(name, value, __builtin_frame_address(0));
}

[[gnu::noinline]] RejectionScope::RejectionScope() : run_(0) {
  detail::Run* run = detail::Run::current();
  if (run != nullptr && run->scopes().enter(__builtin_frame_address(0))) run_ = run->id();
}

RejectionScope::~RejectionScope() {
  detail::Run* run = detail::Run::current();
  if (run != nullptr && run->id() == run_) run->scopes().leave();
}

void RejectionScope::repeat() {
  detail::Run* run = detail::Run::current();
  if (run != nullptr && run->id() == run_) run->scopes().repeat();
}

}  // namespace ppx
