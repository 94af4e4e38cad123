// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#ifndef PPX_SRC_BYTE_READER_HPP
#define PPX_SRC_BYTE_READER_HPP

#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

namespace ppx::detail {

/// Reads numbers in DWARF encoding with bounds checks: past the end it returns zeros and sets its error state.
class ByteReader {
 public:
  ByteReader(const std::uint8_t* begin, const std::uint8_t* end) : at_(begin), end_(end) {}

  bool done() const { return at_ == end_; }
  bool failed() const { return failed_; }

  template <class T>
  T fixed() {
    T value{};
    if (const std::uint8_t* const from = at_; skip(sizeof(T))) std::memcpy(&value, from, sizeof(T));
    return value;
  }

  std::uint64_t unsigned_leb() { return leb().first; }

  std::int64_t signed_leb() {
    const auto [value, bits] = leb();
    const bool negative = bits < 64 && (value >> (bits - 1) & 1U) != 0;
    return static_cast<std::int64_t>(negative ? value | ~std::uint64_t{0} << bits : value);
  }

  std::string_view text() {
    const std::uint8_t* const from = at_;
    while (fixed<std::uint8_t>() != 0) continue;
    return failed_ ? std::string_view() : std::string_view(reinterpret_cast<const char*>(from));
  }

  bool skip(std::uint64_t bytes) {
    if (bytes > static_cast<std::uint64_t>(end_ - at_)) {
      failed_ = true;
      at_ = end_;
      return false;
    }
    at_ += bytes;
    return true;
  }

  ByteReader part(std::uint64_t bytes) {
    const std::uint8_t* const from = at_;
    return skip(bytes) ? ByteReader(from, at_) : ByteReader(end_, end_);
  }

 private:
  std::pair<std::uint64_t, unsigned> leb() {
    std::uint64_t value = 0;
    unsigned bits = 0;
    std::uint8_t byte = 0;
    do {
      byte = fixed<std::uint8_t>();
      if (bits < 64) value |= static_cast<std::uint64_t>(byte & 0x7fU) << bits;
      bits += 7;
    } while ((byte & 0x80U) != 0);
    return {value, bits};
  }

  const std::uint8_t* at_;
  const std::uint8_t* end_;
  bool failed_ = false;
};

}  // namespace ppx::detail

#endif
