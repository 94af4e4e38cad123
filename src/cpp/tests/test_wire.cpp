// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Encoding, checked with the generated code, and decoding of invalid messages.
#include <cstring>
#include <limits>
#include <map>
#include <set>

#include "check.hpp"
#include "ppx_generated.h"
#include "random.hpp"
#include "wire.hpp"

namespace {

using namespace ppx;
using detail::Bytes;
using detail::decode;
using detail::Encoder;
using detail::MessageType;
using flatbuffers::FlatBufferBuilder;

using Message = std::vector<std::uint8_t>;

template <typename MakeBody>
Message build(wire::MessageBody type, MakeBody make_body, const char* identifier = nullptr) {
  FlatBufferBuilder b;
  const auto body = make_body(b);
  b.Finish(wire::CreateMessage(b, type, body.Union()), identifier);
  return {b.GetBufferPointer(), b.GetBufferPointer() + b.GetSize()};
}

Message sample_result(const std::vector<double>& data, const std::vector<std::int32_t>& shape,
                      const char* identifier = nullptr) {
  return build(
      wire::MessageBody_SampleResult,
      [&](FlatBufferBuilder& b) { return wire::CreateSampleResult(b, wire::CreateTensorDirect(b, &data, &shape)); },
      identifier);
}

/// Decodes a message with the alignment of a socket's buffer and no readable bytes after its end.
detail::Received decode_copy(const Message& message) {
  const std::unique_ptr<std::uint8_t[]> exact(new std::uint8_t[message.size()]);
  if (!message.empty()) std::memcpy(exact.get(), message.data(), message.size());
  return decode({exact.get(), message.size()});
}

Event event(Event::Kind kind, const Distribution* distribution, const Tensor* value) {
  return {kind, "[f()+0x1]", "name", distribution, value, false, true, 7, 3};
}

const wire::Message* verified(Bytes bytes) {
  flatbuffers::Verifier verifier(bytes.data, bytes.size);
  CHECK(verifier.VerifyBuffer<wire::Message>(nullptr));
  return flatbuffers::GetRoot<wire::Message>(bytes.data);
}

void check_tensor(const wire::Tensor* found, const Tensor& expected) {
  CHECK(found != nullptr && found->data() != nullptr && found->shape() != nullptr);
  CHECK(std::equal(found->data()->begin(), found->data()->end(), expected.data.begin(), expected.data.end()));
  CHECK(std::equal(found->shape()->begin(), found->shape()->end(), expected.shape.begin(), expected.shape.end()));
}

void sample_statements_carry_everything() {
  Encoder encoder;
  const Distribution distribution = Normal{1.5, 2.5};
  const auto* body = verified(encoder.sample(event(Event::Kind::sample, &distribution, nullptr)))->body_as_Sample();
  CHECK(body != nullptr);
  CHECK_EQUAL(body->address()->str(), "[f()+0x1]");
  CHECK_EQUAL(body->name()->str(), "name");
  CHECK(!body->control() && body->replace());
  CHECK_EQUAL(body->scope(), 7U);
  CHECK_EQUAL(body->repetition(), 3U);
  check_tensor(body->distribution_as_Normal()->mean(), 1.5);
  check_tensor(body->distribution_as_Normal()->stddev(), 2.5);
}

/// The names of the parameters of every distribution in the schema.
void all_distributions_are_encoded_by_name() {
  Encoder encoder;
  const auto encoded = [&encoder](const Distribution& distribution) {
    const auto* body = verified(encoder.sample(event(Event::Kind::sample, &distribution, nullptr)))->body_as_Sample();
    CHECK_EQUAL(std::string(wire::EnumNameDistribution(body->distribution_type())), distribution_name(distribution));
    return body;
  };
  const Tensor probs({0.25, 0.75}, {2});
  check_tensor(encoded(Uniform{1.0, 2.0})->distribution_as_Uniform()->low(), 1.0);
  check_tensor(encoded(Uniform{1.0, 2.0})->distribution_as_Uniform()->high(), 2.0);
  check_tensor(encoded(Categorical{probs})->distribution_as_Categorical()->probs(), probs);
  check_tensor(encoded(Poisson{1.0})->distribution_as_Poisson()->rate(), 1.0);
  check_tensor(encoded(Bernoulli{0.5})->distribution_as_Bernoulli()->probs(), 0.5);
  check_tensor(encoded(Beta{1.0, 2.0})->distribution_as_Beta()->concentration1(), 1.0);
  check_tensor(encoded(Beta{1.0, 2.0})->distribution_as_Beta()->concentration0(), 2.0);
  check_tensor(encoded(Exponential{1.0})->distribution_as_Exponential()->rate(), 1.0);
  check_tensor(encoded(Gamma{1.0, 2.0})->distribution_as_Gamma()->concentration(), 1.0);
  check_tensor(encoded(Gamma{1.0, 2.0})->distribution_as_Gamma()->rate(), 2.0);
  check_tensor(encoded(LogNormal{1.0, 2.0})->distribution_as_LogNormal()->loc(), 1.0);
  check_tensor(encoded(LogNormal{1.0, 2.0})->distribution_as_LogNormal()->scale(), 2.0);
  check_tensor(encoded(Binomial{1.0, 0.5})->distribution_as_Binomial()->total_count(), 1.0);
  check_tensor(encoded(Binomial{1.0, 0.5})->distribution_as_Binomial()->probs(), 0.5);
  check_tensor(encoded(Weibull{1.0, 2.0})->distribution_as_Weibull()->scale(), 1.0);
  check_tensor(encoded(Weibull{1.0, 2.0})->distribution_as_Weibull()->concentration(), 2.0);
  const auto* count = encoded(NegativeBinomial{2.5, 0.5})->distribution_as_NegativeBinomial();
  check_tensor(count->total_count(), 2.5);
  check_tensor(count->probs(), 0.5);
  const auto* student = encoded(StudentT{3.0, 1.0, 2.0})->distribution_as_StudentT();
  check_tensor(student->df(), 3.0);
  check_tensor(student->loc(), 1.0);
  check_tensor(student->scale(), 2.0);
}

void other_statements() {
  Encoder encoder;
  const Tensor large(std::vector<double>(24500, 0.5), {20, 35, 35});
  const Distribution likelihood = Normal{large, 1.0};
  const auto* without = verified(encoder.observe(event(Event::Kind::observe, &likelihood, nullptr)))->body_as_Observe();
  CHECK(without->value() == nullptr);
  check_tensor(without->distribution_as_Normal()->mean(), large);
  const auto* with = verified(encoder.observe(event(Event::Kind::observe, &likelihood, &large)))->body_as_Observe();
  check_tensor(with->value(), large);
  const auto* tag = verified(encoder.tag(event(Event::Kind::tag, nullptr, &large)))->body_as_Tag();
  check_tensor(tag->value(), large);
  CHECK_EQUAL(tag->name()->str(), "name");
  const auto* handshake = verified(encoder.handshake_result("system", "model", 0))->body_as_HandshakeResult();
  CHECK_EQUAL(handshake->system_name()->str(), "system");
  CHECK_EQUAL(handshake->model_name()->str(), "model");
  CHECK_EQUAL(verified(encoder.run_result({}))->body_as_RunResult()->result()->data()->size(), 0U);
  CHECK(verified(encoder.reset())->body_as_Reset() != nullptr);
}

void the_file_identifier_is_neither_written_nor_required() {
  Encoder encoder;
  const Bytes reset = encoder.reset();
  CHECK(std::memcmp(reset.data + 4, "PPXF", 4) != 0);
  for (const char* identifier : {static_cast<const char*>(nullptr), "PPXF"}) {
    const auto received = decode_copy(sample_result({0.25}, {}, identifier));
    CHECK(received.type == MessageType::sample_result && received.error.empty());
    CHECK_EQUAL(received.value, 0.25);
  }
}

void results_with_one_value_of_any_shape_are_accepted() {
  for (const auto& shape : std::vector<std::vector<std::int32_t>>{{}, {1}, {1, 1, 1}}) {
    CHECK_EQUAL(decode_copy(sample_result({-3.5}, shape)).value, -3.5);
  }
}

void results_without_one_finite_value_are_errors() {
  const double inf = std::numeric_limits<double>::infinity();
  CHECK(decode_copy(sample_result({}, {})).error.find("one value") != std::string::npos);
  CHECK(decode_copy(sample_result({1.0, 2.0}, {2})).error.find("found 2") != std::string::npos);
  CHECK(decode_copy(sample_result({inf}, {})).error.find("finite") != std::string::npos);
  CHECK(decode_copy(sample_result({inf - inf}, {})).error.find("finite") != std::string::npos);
  const auto none =
      build(wire::MessageBody_SampleResult, [](FlatBufferBuilder& b) { return wire::CreateSampleResult(b); });
  CHECK(!decode_copy(none).error.empty());
}

void unknown_and_missing_bodies_are_refused() {
  const auto unknown =
      build(static_cast<wire::MessageBody>(99), [](FlatBufferBuilder& b) { return wire::CreateReset(b); });
  CHECK(decode_copy(unknown).type == MessageType::none);
  const auto none = build(wire::MessageBody_NONE, [](FlatBufferBuilder& b) { return wire::CreateReset(b); });
  CHECK(decode_copy(none).type == MessageType::none);
  FlatBufferBuilder b;
  b.Finish(wire::CreateMessage(b, wire::MessageBody_SampleResult, 0));
  CHECK(decode_copy({b.GetBufferPointer(), b.GetBufferPointer() + b.GetSize()}).type == MessageType::none);
}

std::map<std::string, Message> one_of_each() {
  Encoder encoder;
  const Tensor value({1.0, 2.0, 3.0}, {3});
  const Distribution distribution = Normal{value, 1.0};
  const auto copy = [](Bytes bytes) { return Message(bytes.data, bytes.data + bytes.size); };
  const auto empty = [](wire::MessageBody type) {
    return build(type, [](FlatBufferBuilder& b) { return wire::CreateRun(b); });
  };
  const auto handshake = build(wire::MessageBody_Handshake,
                               [](FlatBufferBuilder& b) { return wire::CreateHandshakeDirect(b, "a client"); });
  return {{"handshake", handshake},
          {"handshake_result", copy(encoder.handshake_result("system", "model", 0))},
          {"run", empty(wire::MessageBody_Run)},
          {"run_result", copy(encoder.run_result(value))},
          {"sample", copy(encoder.sample(event(Event::Kind::sample, &distribution, nullptr)))},
          {"sample_result", sample_result({0.5}, {})},
          {"sample_result PPXF", sample_result({0.5}, {1}, "PPXF")},
          {"observe", copy(encoder.observe(event(Event::Kind::observe, &distribution, &value)))},
          {"observe_result", empty(wire::MessageBody_ObserveResult)},
          {"tag", copy(encoder.tag(event(Event::Kind::tag, nullptr, &value)))},
          {"tag_result", empty(wire::MessageBody_TagResult)},
          {"reset", copy(encoder.reset())}};
}

void every_truncation_is_handled() {
  for (const auto& [name, message] : one_of_each()) {
    CHECK(decode_copy(message).type != MessageType::none);
    std::size_t refused = 0;
    for (std::size_t size = 0; size < message.size(); ++size) {
      const auto received = decode_copy({message.begin(), message.begin() + static_cast<std::ptrdiff_t>(size)});
      if (received.type == MessageType::none) ++refused;
    }
    // Padding and unused ends may be truncated without effect.
    if (refused < message.size() / 2) check_failed(__FILE__, __LINE__, name + ": too few truncations refused");
  }
}

void every_bit_flip_is_handled() {
  std::size_t refused = 0;
  for (const auto& [name, message] : one_of_each()) {
    Message flipped = message;
    for (std::size_t bit = 0; bit < 8 * message.size(); ++bit) {
      flipped[bit / 8] = static_cast<std::uint8_t>(flipped[bit / 8] ^ (1U << (bit % 8)));
      const auto received = decode_copy(flipped);
      if (received.type == MessageType::none || !received.error.empty()) ++refused;
      flipped[bit / 8] = message[bit / 8];
    }
  }
  CHECK(refused > 1000);
}

void random_bytes_are_refused() {
  detail::Generator generator(1);
  for (int i = 0; i < 20000; ++i) {
    Message message(generator.next() % 100);
    for (auto& byte : message) byte = static_cast<std::uint8_t>(generator.next() % (i % 2 == 0 ? 256 : 16));
    const auto received = decode_copy(message);
    CHECK(static_cast<int>(received.type) <= wire::MessageBody_MAX);
  }
  CHECK(decode_copy({}).type == MessageType::none);
}

}  // namespace

int main() {
  return run_tests(
      {{"sample statements carry everything", sample_statements_carry_everything},
       {"all distributions are encoded by name", all_distributions_are_encoded_by_name},
       {"other statements", other_statements},
       {"the file identifier is neither written nor required", the_file_identifier_is_neither_written_nor_required},
       {"results with one value of any shape are accepted", results_with_one_value_of_any_shape_are_accepted},
       {"results without one finite value are errors", results_without_one_finite_value_are_errors},
       {"unknown and missing bodies are refused", unknown_and_missing_bodies_are_refused},
       {"every truncation is handled", every_truncation_is_handled},
       {"every bit flip is handled", every_bit_flip_is_handled},
       {"random bytes are refused", random_bytes_are_refused}});
}
