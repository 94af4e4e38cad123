// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
//
// PPX messages to and from bytes. Nothing is read from a buffer that has not been verified.
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

/// Bytes of a message; valid until the next one is encoded, or as long as their keeper.
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

/// What the simulator's side needs of a message it received.
struct Received {
  MessageType type = MessageType::none;  // none: not a valid message
  double value = 0.0;                    // of a SampleResult
  std::string error;                     // what is wrong with it, if anything
  HandOver hand_over = HandOver::none;   // of a SampleResult
  bool has_value = true;                 // of a SampleResult
  std::uint32_t delegation = 0;          // of a Handshake: the version of delegated runs that the peer speaks
  std::unique_ptr<RunRequest> request;   // of a Run that is not PPX 1.0's
};

/// The version of delegated runs spoken here.
constexpr std::uint32_t delegation_version = 1;
/// The version of chains offered with them.
constexpr std::uint32_t chain_version = 1;

/// `buffer` is aligned to 8 bytes. `type` is none for what is no PPX message, and a SampleResult
/// without exactly one finite datum has an `error`, unless it hands the draw over.
Received decode(Bytes buffer);

/// The name of a message type, for errors.
std::string_view message_name(MessageType type);

/// Encodes into one buffer that is used again for every message that nobody keeps.
class Encoder {
 public:
  /// Keeps the bytes encoded last, for whoever sends them without a copy.
  std::shared_ptr<const void> keeper() const { return builder_; }

  Encoder();
  ~Encoder();
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;

  /// `session` other than 0: delegated runs are offered.
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
