// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// Encoding and decoding of PPX messages. Buffers are verified before they are read.
#ifndef PPX_SRC_WIRE_HPP
#define PPX_SRC_WIRE_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "ppx/ppx.hpp"
#include "request.hpp"

namespace ppx::detail {

/// Bytes of a message; valid until the next one is encoded, or as long as their `keeper`.
struct Bytes {
  const std::uint8_t* data;
  std::size_t size;
};

/// Numbers of the union MessageBody in the schema.
enum class MessageType : std::uint8_t {
  none,
  handshake,
  handshake_result,
  run,
  run_result,
  sample,
  sample_result,
  observe,
  observe_result,
  tag,
  tag_result,
  reset
};

/// Number of distributions in PPX 1.0.
constexpr std::uint32_t distributions_of_ppx_1_0 = 11;

/// What the inference side supports, in its Handshake.
struct Offer {
  std::uint32_t delegation = 0;                            // version of delegated runs
  std::uint32_t distributions = distributions_of_ppx_1_0;  // highest number of a distribution
};

/// A received message, as far as the simulator needs it.
struct Received {
  MessageType type = MessageType::none;  // none: not a valid message
  double value = 0.0;                    // of a SampleResult
  std::string error;                     // why it is invalid; empty if it is valid
  HandOver hand_over = HandOver::none;   // of a SampleResult
  bool has_value = true;                 // of a SampleResult
  Offer offer;                           // of a Handshake
  std::unique_ptr<RunRequest> request;   // of a delegated or assisted Run
};

/// The supported version of delegated runs.
constexpr std::uint32_t delegation_version = 1;
/// The supported version of chains.
constexpr std::uint32_t chain_version = 1;
/// The supported version of proposed rows.
constexpr std::uint32_t proposal_version = 1;

/// `buffer` must be aligned to 8 bytes. `type` is none if it is not a PPX message. A SampleResult without exactly one
/// finite value has an `error`, unless it has a hand-over.
Received decode(Bytes buffer);

/// The name of a message type, for errors.
std::string_view message_name(MessageType type);

/// Encodes into a buffer that is reused, unless its message is kept.
class Encoder {
 public:
  /// Keeps the bytes of the last message, to send them without a copy.
  std::shared_ptr<const void> keeper() const { return builder_; }

  Encoder();
  ~Encoder();
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;

  /// A `session` other than 0 offers delegated runs.
  Bytes handshake_result(std::string_view system_name, std::string_view model_name, std::uint64_t session);
  Bytes run_result(const Tensor& result);
  Bytes reset(std::string_view reason = {});
  Bytes traces(std::uint64_t session, const Record& record, const Tables::News& news);
  Bytes sample(const Event& event, std::uint32_t instance = 0);
  Bytes observe(const Event& event);
  Bytes tag(const Event& event);

 private:
  struct Builder;
  std::shared_ptr<Builder> builder_;
};

}  // namespace ppx::detail

#endif
