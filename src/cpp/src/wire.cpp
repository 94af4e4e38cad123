// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include "wire.hpp"

#include <cmath>
#include <cstring>

#include "parameters.hpp"
#include "ppx_generated.h"  // made from resources/ppx/ppx.fbs by flatc, in namespace ppx::wire

namespace ppx::detail {
namespace {

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;

Received decode_sample_result(const wire::SampleResult& body) {
  Received received{MessageType::sample_result, 0.0, {}};
  const wire::Tensor* tensor = body.result();
  const auto* data = tensor != nullptr ? tensor->data() : nullptr;
  if (data == nullptr || data->size() != 1) {
    received.error = "expected one datum in SampleResult, found " +
                     std::to_string(data == nullptr ? 0 : static_cast<std::size_t>(data->size()));
    return received;
  }
  // Copied bytewise: the verifier does not promise the alignment of a vector's elements.
  std::memcpy(&received.value, data->Data(), sizeof(double));
  if (!std::isfinite(received.value)) received.error = "expected a finite datum in SampleResult, found inf or nan";
  return received;
}

Offset<wire::Tensor> tensor(FlatBufferBuilder& b, const Tensor& value) {
  const auto data = b.CreateVector(value.data.data(), value.data.size());
  const auto shape = b.CreateVector(value.shape.data(), value.shape.size());
  return wire::CreateTensor(b, data, shape);
}

/// One Create function of the generated code for each distribution, in the variant's order.
struct DistributionEncoder {
  FlatBufferBuilder& b;

  template <typename Create>
  Offset<void> make(Create create, const Tensor& p) const {
    return create(b, tensor(b, p)).Union();
  }
  template <typename Create>
  Offset<void> make(Create create, const Tensor& p, const Tensor& q) const {
    const auto first = tensor(b, p);
    const auto second = tensor(b, q);
    return create(b, first, second).Union();
  }
  Offset<void> operator()(const Normal& d) const { return make(wire::CreateNormal, d.mean, d.stddev); }
  Offset<void> operator()(const Uniform& d) const { return make(wire::CreateUniform, d.low, d.high); }
  Offset<void> operator()(const Categorical& d) const { return make(wire::CreateCategorical, d.probs); }
  Offset<void> operator()(const Poisson& d) const { return make(wire::CreatePoisson, d.rate); }
  Offset<void> operator()(const Bernoulli& d) const { return make(wire::CreateBernoulli, d.probs); }
  Offset<void> operator()(const Beta& d) const { return make(wire::CreateBeta, d.concentration1, d.concentration0); }
  Offset<void> operator()(const Exponential& d) const { return make(wire::CreateExponential, d.rate); }
  Offset<void> operator()(const Gamma& d) const { return make(wire::CreateGamma, d.concentration, d.rate); }
  Offset<void> operator()(const LogNormal& d) const { return make(wire::CreateLogNormal, d.loc, d.scale); }
  Offset<void> operator()(const Binomial& d) const { return make(wire::CreateBinomial, d.total_count, d.probs); }
  Offset<void> operator()(const Weibull& d) const { return make(wire::CreateWeibull, d.scale, d.concentration); }
};

/// The union's numbers are the variant's, from 1; both ends are pinned here.
wire::Distribution distribution_type(const Distribution& distribution) {
  static_assert(std::variant_size_v<Distribution> == static_cast<std::size_t>(wire::Distribution_MAX));
  static_assert(std::is_same_v<std::variant_alternative_t<wire::Distribution_Normal - 1, Distribution>, Normal>);
  static_assert(std::is_same_v<std::variant_alternative_t<wire::Distribution_Weibull - 1, Distribution>, Weibull>);
  return static_cast<wire::Distribution>(distribution.index() + 1);
}

Offset<flatbuffers::String> text(FlatBufferBuilder& b, std::string_view value) {
  return b.CreateString(value.data(), value.size());
}

}  // namespace

static_assert(static_cast<int>(MessageType::reset) == wire::MessageBody_Reset);
static_assert(static_cast<int>(MessageType::sample_result) == wire::MessageBody_SampleResult);

std::string_view message_name(MessageType type) {
  return type == MessageType::none ? "a malformed message"
                                   : wire::EnumNameMessageBody(static_cast<wire::MessageBody>(type));
}

Received decode(Bytes buffer) {
  flatbuffers::Verifier verifier(buffer.data, buffer.size);
  // The file identifier is optional on the wire, hence nullptr.
  constexpr std::size_t smallest = 8;  // a root offset and a table; the verifier takes no less
  if (buffer.size < smallest || !verifier.VerifyBuffer<wire::Message>(nullptr)) {
    return {MessageType::none, 0.0, "not a PPX message"};
  }
  const auto* message = flatbuffers::GetRoot<wire::Message>(buffer.data);
  const auto type = message->body_type();
  if (type == wire::MessageBody_NONE || type > wire::MessageBody_MAX || message->body() == nullptr) {
    return {MessageType::none, 0.0, "a PPX message without a body this version knows"};
  }
  if (const auto* result = message->body_as_SampleResult()) return decode_sample_result(*result);
  return {static_cast<MessageType>(type), 0.0, {}};
}

struct Encoder::Builder {
  FlatBufferBuilder b{4096};

  template <typename T>
  Bytes finish(wire::MessageBody type, Offset<T> body) {
    b.Finish(wire::CreateMessage(b, type, body.Union()));
    return {b.GetBufferPointer(), b.GetSize()};
  }
};

Encoder::Encoder() : builder_(std::make_unique<Builder>()) {}
Encoder::~Encoder() = default;

Bytes Encoder::handshake_result(std::string_view system_name, std::string_view model_name) {
  FlatBufferBuilder& b = builder_->b;
  b.Clear();
  const auto system = text(b, system_name);
  const auto model = text(b, model_name);
  return builder_->finish(wire::MessageBody_HandshakeResult, wire::CreateHandshakeResult(b, system, model));
}

Bytes Encoder::run_result(const Tensor& result) {
  FlatBufferBuilder& b = builder_->b;
  b.Clear();
  return builder_->finish(wire::MessageBody_RunResult, wire::CreateRunResult(b, tensor(b, result)));
}

Bytes Encoder::reset() {
  builder_->b.Clear();
  return builder_->finish(wire::MessageBody_Reset, wire::CreateReset(builder_->b));
}

Bytes Encoder::sample(const Event& event) {
  FlatBufferBuilder& b = builder_->b;
  b.Clear();
  const auto address = text(b, event.address);
  const auto name = text(b, event.name);
  const auto distribution = std::visit(DistributionEncoder{b}, *event.distribution);
  return builder_->finish(wire::MessageBody_Sample,
                          wire::CreateSample(b, address, name, distribution_type(*event.distribution), distribution,
                                             event.control, event.replace, event.scope, event.repetition));
}

Bytes Encoder::observe(const Event& event) {
  FlatBufferBuilder& b = builder_->b;
  b.Clear();
  const auto address = text(b, event.address);
  const auto name = text(b, event.name);
  const auto distribution = std::visit(DistributionEncoder{b}, *event.distribution);
  const auto value = event.value != nullptr ? tensor(b, *event.value) : Offset<wire::Tensor>();
  return builder_->finish(
      wire::MessageBody_Observe,
      wire::CreateObserve(b, address, name, distribution_type(*event.distribution), distribution, value));
}

Bytes Encoder::tag(const Event& event) {
  FlatBufferBuilder& b = builder_->b;
  b.Clear();
  const auto address = text(b, event.address);
  const auto name = text(b, event.name);
  return builder_->finish(wire::MessageBody_Tag, wire::CreateTag(b, address, name, tensor(b, *event.value)));
}

}  // namespace ppx::detail
