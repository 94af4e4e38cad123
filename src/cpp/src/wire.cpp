// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include "wire.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "parameters.hpp"
#include "ppx_generated.h"  // made from resources/ppx/ppx.fbs by flatc, in namespace ppx::wire

namespace ppx::detail {
namespace {

using flatbuffers::FlatBufferBuilder;
using flatbuffers::Offset;

Received received_as(MessageType type, std::string error = {}) {
  Received received;
  received.type = type;
  received.error = std::move(error);
  return received;
}

Received decode_sample_result(const wire::SampleResult& body) {
  Received received = received_as(MessageType::sample_result);
  const wire::Tensor* tensor = body.result();
  const auto* data = tensor != nullptr ? tensor->data() : nullptr;
  if (body.hand_over() > wire::HandOver_MAX) received.error = "an unknown hand-over";
  received.hand_over = static_cast<HandOver>(body.hand_over());
  received.has_value = data != nullptr && data->size() != 0;
  if (received.hand_over != HandOver::none && !received.has_value) return received;
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

// The records have the layouts of the schema's structs: they are copied, not converted.
static_assert(FLATBUFFERS_LITTLEENDIAN);
static_assert(sizeof(EntryRecord) == sizeof(wire::Entry) && sizeof(DetailRecord) == sizeof(wire::Detail));
static_assert(sizeof(TraceRecord) == sizeof(wire::TraceRecord));
static_assert(sizeof(ObserveRecord) == sizeof(wire::ObserveRecord) && sizeof(TagRecord) == sizeof(wire::TagRecord));
static_assert(sizeof(ArrayRecord) == sizeof(wire::Array) && sizeof(PriorRecord) == sizeof(wire::Prior));
static_assert(sizeof(AddressKey) == sizeof(wire::AddressKey) && sizeof(StepRecord) == sizeof(wire::Step));

template <typename Struct, typename T>
Offset<flatbuffers::Vector<const Struct*>> structs(FlatBufferBuilder& b, const T* records, std::size_t count) {
  static_assert(sizeof(T) == sizeof(Struct) && alignof(T) == alignof(Struct));
  if (count == 0) return 0;  // absent says the same, and is read faster
  return b.CreateVectorOfStructs(reinterpret_cast<const Struct*>(records), count);
}

template <typename Struct, typename T>
Offset<flatbuffers::Vector<const Struct*>> structs(FlatBufferBuilder& b, const std::vector<T>& records) {
  return structs<Struct>(b, records.data(), records.size());
}

template <typename T>
Offset<flatbuffers::Vector<T>> numbers(FlatBufferBuilder& b, const std::vector<T>& values) {
  return values.empty() ? 0 : b.CreateVector(values);
}

/// Copies a vector of the schema's structs; bytewise, since the verifier does not promise their alignment.
template <typename T, typename Vector>
void copy(const Vector* from, std::vector<T>& to) {
  if (from == nullptr || from->size() == 0) return;
  to.resize(from->size());
  std::memcpy(to.data(), from->Data(), from->size() * sizeof(T));
}

Tensor to_tensor(const wire::Tensor* from) {
  Tensor tensor;
  if (from == nullptr) return tensor;
  copy(from->data(), tensor.data);
  copy(from->shape(), tensor.shape);
  return tensor;
}

/// Whether a tensor of the wire can be an observation.
bool is_consistent(const Tensor& tensor) {
  std::size_t size = 1;
  for (const std::int32_t extent : tensor.shape) {
    if (extent < 0 || (extent > 0 && size > tensor.data.size() / static_cast<std::size_t>(extent))) return false;
    size *= static_cast<std::size_t>(extent);
  }
  if (size != tensor.data.size()) return false;
  return std::all_of(tensor.data.begin(), tensor.data.end(), [](double x) { return std::isfinite(x); });
}

std::string problem_of_chain(const RunRequest& request) {
  constexpr std::uint32_t most_steps = 1U << 16U;  // what comes back has to fit a message
  const ChainRequest& chain = *request.chain;
  if (request.mode != RunMode::delegated || request.seeds.size() != 1) return "a chain that is not one delegated run";
  if (request.prefix != request.rows.size()) return "a chain with rows behind its prefix";
  if (!request.details || request.rejected) return "a chain without details, or with rejected repetitions";
  if (chain.count > most_steps) return "a chain of too many steps at a time";
  for (const double share : {chain.focus_share, chain.fresh_share, chain.tail_share, chain.anew_share}) {
    if (!(share >= 0.0 && share <= 1.0)) return "a chain with a share that is none";
  }
  if (!(chain.beta >= 0.0) || !std::isfinite(chain.beta)) return "a chain of an impossible temperature";
  return {};
}

std::string problem_of(const RunRequest& request) {
  if (request.seeds.empty()) return "a delegated Run without seeds";
  if (request.mode == RunMode::assisted && request.seeds.size() != 1) return "an assisted Run of several seeds";
  if (request.chain) {
    if (std::string problem = problem_of_chain(request); !problem.empty()) return problem;
  }
  if (request.prefix > request.rows.size()) return "a prefix longer than the rows";
  if (request.rows.size() != request.row_details.size()) return "rows without their details";
  for (const EntryRecord& row : request.rows) {
    if (!std::isfinite(row.value)) return "a row whose value is not finite";
  }
  for (std::size_t i = request.prefix; i < request.row_details.size(); ++i) {
    if (std::isnan(request.row_details[i].log_prob)) return "a row without its log density, behind the prefix";
  }
  if (request.observations) {
    for (const auto& [name, tensor] : *request.observations) {
      if (!is_consistent(tensor))
        return "the observation `" + name + "`, whose data are not finite or not of its shape";
    }
  }
  return {};
}

/// What copying the texts and observations of a Run takes. Parts of a buffer may lie over each other: a small message
/// could otherwise fill the memory.
std::size_t copied_bytes(const wire::Run& body) {
  std::size_t bytes = 0;
  if (const auto* texts = body.texts()) {
    for (const auto* string : *texts) bytes += string->size();
  }
  if (body.chain() != nullptr && body.chain()->focus() != nullptr) {
    for (const auto* string : *body.chain()->focus()) bytes += string->size();
  }
  const auto* tensors = body.observations() != nullptr ? body.observations()->tensors() : nullptr;
  if (tensors == nullptr) return bytes;
  for (const auto* named : *tensors) {
    if (named->name() != nullptr) bytes += named->name()->size();
    const auto* tensor = named->value();
    if (tensor != nullptr && tensor->data() != nullptr) bytes += sizeof(double) * tensor->data()->size();
    if (tensor != nullptr && tensor->shape() != nullptr) bytes += sizeof(std::int32_t) * tensor->shape()->size();
  }
  return bytes;
}

ChainRequest chain_of(const wire::Chain& body) {
  ChainRequest chain;
  chain.count = body.count();
  chain.first = body.first();
  chain.beta = body.beta();
  chain.focus_share = body.focus_share();
  chain.fresh_share = body.fresh_share();
  chain.tail_share = body.tail_share();
  chain.anew_share = body.anew_share();
  chain.focus_named = body.focus_named();
  if (const auto* names = body.focus()) {
    for (const auto* name : *names) chain.focus.emplace_back(name->string_view());
  }
  return chain;
}

Received decode_run(const wire::Run& body, std::size_t size) {
  Received received = received_as(MessageType::run);
  if (body.mode() == wire::RunMode_asked) return received;
  if (body.mode() > wire::RunMode_MAX) return received_as(MessageType::run, "a Run of an unknown mode");
  auto request = std::make_unique<RunRequest>();
  request->mode = static_cast<RunMode>(body.mode());
  request->session = body.session();
  if (copied_bytes(body) > size) return received_as(MessageType::run, "a Run whose parts lie over each other");
  copy(body.seeds(), request->seeds);
  if (const auto* texts = body.texts()) {
    for (const auto* string : *texts) request->texts.emplace_back(string->string_view());
  }
  copy(body.addresses(), request->addresses);
  copy(body.rows(), request->rows);
  copy(body.row_details(), request->row_details);
  request->prefix = body.prefix();
  if (const auto* observations = body.observations()) {
    request->observations.emplace();
    if (const auto* tensors = observations->tensors()) {
      for (const auto* named : *tensors) {
        const std::string name = named->name() != nullptr ? named->name()->str() : std::string();
        request->observations->insert_or_assign(name, to_tensor(named->value()));
      }
    }
  }
  request->score = body.score();
  request->parameters = body.parameters();
  request->draw_below = body.draw_below();
  request->rejected = body.rejected();
  request->details = body.details() || body.rejected();
  if (body.chain() != nullptr) request->chain = chain_of(*body.chain());
  received.error = problem_of(*request);
  received.request = std::move(request);
  return received;
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
    return received_as(MessageType::none, "not a PPX message");
  }
  const auto* message = flatbuffers::GetRoot<wire::Message>(buffer.data);
  const auto type = message->body_type();
  if (type == wire::MessageBody_NONE || type > wire::MessageBody_MAX || message->body() == nullptr) {
    return received_as(MessageType::none, "a PPX message without a body this version knows");
  }
  if (const auto* result = message->body_as_SampleResult()) return decode_sample_result(*result);
  if (const auto* run = message->body_as_Run()) return decode_run(*run, buffer.size);
  Received received = received_as(static_cast<MessageType>(type));
  if (const auto* handshake = message->body_as_Handshake()) received.delegation = handshake->delegation();
  return received;
}

struct Encoder::Builder {
  FlatBufferBuilder b{4096};

  static FlatBufferBuilder& begin(std::shared_ptr<Builder>& builder) {
    // A message that is still on its way keeps its builder.
    if (builder.use_count() > 1) builder = std::make_shared<Builder>();
    std::atomic_thread_fence(std::memory_order_acquire);  // the sending thread has read it before it let go
    builder->b.Clear();
    return builder->b;
  }

  template <typename T>
  Bytes finish(wire::MessageBody type, Offset<T> body) {
    b.Finish(wire::CreateMessage(b, type, body.Union()));
    return {b.GetBufferPointer(), b.GetSize()};
  }
};

Encoder::Encoder() : builder_(std::make_shared<Builder>()) {}
Encoder::~Encoder() = default;

Bytes Encoder::handshake_result(std::string_view system_name, std::string_view model_name, std::uint64_t session) {
  FlatBufferBuilder& b = Builder::begin(builder_);
  const auto system = text(b, system_name);
  const auto model = text(b, model_name);
  return builder_->finish(wire::MessageBody_HandshakeResult,
                          wire::CreateHandshakeResult(b, system, model, session != 0 ? delegation_version : 0, session,
                                                      session != 0 ? chain_version : 0));
}

Bytes Encoder::run_result(const Tensor& result) {
  FlatBufferBuilder& b = Builder::begin(builder_);
  return builder_->finish(wire::MessageBody_RunResult, wire::CreateRunResult(b, tensor(b, result)));
}

Bytes Encoder::reset(std::string_view reason) {
  FlatBufferBuilder& b = Builder::begin(builder_);
  const auto why = reason.empty() ? Offset<flatbuffers::String>() : text(b, reason);
  return builder_->finish(wire::MessageBody_Reset, wire::CreateReset(b, why));
}

Bytes Encoder::traces(std::uint64_t session, const Record& record, const Tables::News& news) {
  FlatBufferBuilder& b = Builder::begin(builder_);
  std::vector<Offset<flatbuffers::String>> strings;
  for (std::size_t i = 0; i < news.text_count; ++i) strings.push_back(text(b, news.texts[i]));
  const auto texts = strings.empty() ? 0 : b.CreateVector(strings);
  const auto addresses = structs<wire::AddressKey>(b, news.addresses, news.address_count);
  const auto priors = structs<wire::Prior>(b, *news.priors);
  const auto parameters = numbers(b, *news.parameters);
  const auto traces = structs<wire::TraceRecord>(b, record.traces);
  const auto entries = structs<wire::Entry>(b, record.entries);
  const auto details = structs<wire::Detail>(b, record.details);
  const auto observes = structs<wire::ObserveRecord>(b, record.observes);
  const auto tags = structs<wire::TagRecord>(b, record.tags);
  const auto arrays = structs<wire::Array>(b, record.arrays);
  const auto data = numbers(b, record.data);
  const auto index = numbers(b, record.index);
  const auto shape = numbers(b, record.shape);
  const auto steps = structs<wire::Step>(b, record.steps);
  const auto body = wire::CreateTraces(b, session, texts, addresses, news.kept_priors, priors, parameters, traces,
                                       entries, details, observes, tags, arrays, data, index, shape, steps);
  return builder_->finish(wire::MessageBody_RunResult, wire::CreateRunResult(b, 0, body));
}

Bytes Encoder::sample(const Event& event, std::uint32_t instance) {
  FlatBufferBuilder& b = Builder::begin(builder_);
  const auto address = text(b, event.address);
  const auto name = text(b, event.name);
  const auto distribution = std::visit(DistributionEncoder{b}, *event.distribution);
  return builder_->finish(wire::MessageBody_Sample,
                          wire::CreateSample(b, address, name, distribution_type(*event.distribution), distribution,
                                             event.control, event.replace, event.scope, event.repetition, instance));
}

Bytes Encoder::observe(const Event& event) {
  FlatBufferBuilder& b = Builder::begin(builder_);
  const auto address = text(b, event.address);
  const auto name = text(b, event.name);
  const auto distribution = std::visit(DistributionEncoder{b}, *event.distribution);
  const auto value = event.value != nullptr ? tensor(b, *event.value) : Offset<wire::Tensor>();
  return builder_->finish(
      wire::MessageBody_Observe,
      wire::CreateObserve(b, address, name, distribution_type(*event.distribution), distribution, value));
}

Bytes Encoder::tag(const Event& event) {
  FlatBufferBuilder& b = Builder::begin(builder_);
  const auto address = text(b, event.address);
  const auto name = text(b, event.name);
  return builder_->finish(wire::MessageBody_Tag, wire::CreateTag(b, address, name, tensor(b, *event.value)));
}

}  // namespace ppx::detail
