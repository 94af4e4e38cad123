// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Addresses: their form, their independence of where the program is loaded, and their cache.
#include <array>
#include <cstdio>
#include <memory>
#include <regex>
#include <set>

#include "address_table.hpp"
#include "check.hpp"
#include "record.hpp"

#define KEEP __attribute__((noinline, noipa))

// Unknown to the compiler, so that a multiplication by it prevents a tail call, which would remove the frame.
static volatile double one = 1.0;

double chain(int levels);
double one_draw();
double two_sites();

KEEP double one_draw() { return one * ppx::sample(ppx::Uniform{0.0, 1.0}); }
KEEP double chain(int levels) { return levels == 0 ? one * one_draw() : 1.0 + chain(levels - 1); }
KEEP double two_sites() {
  const double first = ppx::sample(ppx::Uniform{0.0, 1.0});
  return first + ppx::sample(ppx::Uniform{0.0, 1.0});
}
KEEP static double without_symbol() { return one * ppx::sample(ppx::Uniform{0.0, 1.0}); }

struct Addressed final : ppx::Model {
  std::string name() const override { return "addressed"; }
  KEEP ppx::Tensor forward() override {
    const double sum = one_draw() + chain(3) + two_sites() + without_symbol();
    ppx::observe(ppx::Normal{sum, 1.0}, "obs");
    ppx::tag("sum", sum);
    return sum;
  }
};

namespace {

std::string program;  // argv[0]

std::vector<std::string> addresses(ppx::Model& model) {
  std::vector<std::string> result;
  for (const Recorded& r : record(model)) result.push_back(r.address);
  return result;
}

void format_is_outermost_first_from_forward() {
  Addressed model;
  const auto found = addresses(model);
  CHECK_EQUAL(found.size(), std::size_t{7});
  const std::string frame = R"([^;\]]*\+0x[0-9a-f]+)";
  const std::string forward = R"(\[Addressed::forward\(\)\+0x[0-9a-f]+)";
  CHECK(std::regex_match(found[0], std::regex(forward + R"(; one_draw\(\)\+0x[0-9a-f]+\])")));
  std::string four;
  for (int i = 0; i < 4; ++i) four += R"(; chain\(int\)\+0x[0-9a-f]+)";
  CHECK(std::regex_match(found[1], std::regex(forward + four + R"(; one_draw\(\)\+0x[0-9a-f]+\])")));
  CHECK(found[2] != found[3]);  // two call sites of one function
  CHECK(std::regex_match(found[4], std::regex(forward + "; test_addresses\\+0x[0-9a-f]+\\]")));
  CHECK(std::regex_match(found[5], std::regex(forward + R"(\])")));
  CHECK(std::regex_match(found[6], std::regex(forward + R"(\])")));
  for (const auto& address : found) CHECK(address.find("ppx::") == std::string::npos);
}

KEEP std::vector<std::string> from_further_out(ppx::Model& model, int levels) {
  auto result = levels == 0 ? addresses(model) : from_further_out(model, levels - 1);
  result.shrink_to_fit();
  return result;
}

void frames_around_forward_do_not_matter() {
  Addressed model;
  CHECK(from_further_out(model, 0) == from_further_out(model, 200));
}

void a_model_inside_a_model_has_its_own_addresses() {
  Addressed inner;
  const auto alone = addresses(inner);
  std::vector<std::string> nested;
  record([&] {
    one_draw();
    nested = addresses(inner);
    return ppx::Tensor{};
  });
  CHECK(alone == nested);
}

void deep_stacks_keep_the_innermost_frames() {
  const auto depth = [](int levels) {
    const auto address = record([&] { return ppx::Tensor(chain(levels)); }).at(0).address;
    return std::pair(std::count(address.begin(), address.end(), ';') + 1, address);
  };
  const auto [shallow_depth, shallow] = depth(100);
  CHECK(shallow_depth > 101 && shallow_depth < 128);
  CHECK(shallow.find("forward()") != std::string::npos);
  const auto [deep_depth, deep] = depth(300);
  CHECK_EQUAL(deep_depth, 128);
  CHECK(deep.find("forward()") == std::string::npos);
  CHECK(deep.rfind("one_draw()") != std::string::npos);
  CHECK(deep == depth(301).second);
}

std::vector<std::string> lines_of(const std::string& command) {
  struct Close {
    void operator()(FILE* pipe) const { pclose(pipe); }
  };
  const std::unique_ptr<FILE, Close> pipe(popen(command.c_str(), "r"));
  CHECK(pipe != nullptr);
  std::vector<std::string> lines;
  std::array<char, 8192> line{};
  while (std::fgets(line.data(), static_cast<int>(line.size()), pipe.get()) != nullptr) lines.emplace_back(line.data());
  return lines;
}

void other_processes_have_the_same_addresses() {
  const auto first = lines_of(program + " --print");
  const auto second = lines_of(program + " --print");
  CHECK_EQUAL(first.size(), std::size_t{8});
  // The last line is the load address of the program. It differs unless randomisation is disabled.
  CHECK(std::equal(first.begin(), first.end() - 1, second.begin()));
  if (first.back() == second.back()) std::cout << "note: address space randomisation is off, the check is weak\n";
}

void names_are_resolved_once_per_stack() {
  ppx::detail::AddressTable table;
  table.refresh();
  ppx::detail::Stack stack;
  stack.size = 2;
  stack.pc[0] = reinterpret_cast<std::uintptr_t>(&one_draw) + 4;
  stack.pc[1] = reinterpret_cast<std::uintptr_t>(&two_sites) + 4;
  const auto& site = table.find(stack);
  CHECK_EQUAL(site.address, "[two_sites()+0x4; one_draw()+0x4]");
  CHECK(&table.find(stack) == &site);
  CHECK_EQUAL(table.size(), std::size_t{1});
  stack.size = 1;
  CHECK(&table.find(stack) != &site);
  CHECK_EQUAL(table.size(), std::size_t{2});
}

void adapters_are_omitted() {
  ppx::set_sites(ppx::SiteTable::parse("adapter one_*\n", "test"));
  Addressed model;
  const auto found = addresses(model);
  ppx::set_sites({});
  CHECK(std::regex_match(found[0], std::regex(R"(\[Addressed::forward\(\)\+0x[0-9a-f]+\])")));
  CHECK(found[1].find("one_draw") == std::string::npos && found[1].find("chain(int)") != std::string::npos);
  CHECK(addresses(model)[0].find("one_draw") != std::string::npos);  // a changed table takes effect
}

void print_addresses() {
  Addressed model;
  for (const auto& address : addresses(model)) std::cout << address << '\n';
  std::cout << reinterpret_cast<void*>(&print_addresses) << '\n';
}

}  // namespace

int main(int argc, char** argv) {
  program = argv[0];
  if (argc > 1 && std::string(argv[1]) == "--print") {
    print_addresses();
    return 0;
  }
  return run_tests({{"format is outermost first from forward", format_is_outermost_first_from_forward},
                    {"frames around forward do not matter", frames_around_forward_do_not_matter},
                    {"a model inside a model has its own addresses", a_model_inside_a_model_has_its_own_addresses},
                    {"deep stacks keep the innermost frames", deep_stacks_keep_the_innermost_frames},
                    {"other processes have the same addresses", other_processes_have_the_same_addresses},
                    {"names are resolved once per stack", names_are_resolved_once_per_stack},
                    {"adapters are omitted", adapters_are_omitted}});
}
