// SPDX-FileCopyrightText: 2026 The etalumis authors
// SPDX-License-Identifier: BSD-3-Clause
#include "unwind_rules.hpp"

#if PPX_FAST_WALK

#include <cstddef>
#include <cstring>
#include <limits>
#include <string_view>
#include <vector>

#include "byte_reader.hpp"

// Look-up of the runtime, exported by libgcc and by LLVM's libunwind, but not in a public header: the frame description
// entry of the function at an address, or null. Covers libraries that are loaded later and registered code.
struct dwarf_eh_bases {
  void* tbase;
  void* dbase;
  void* func;  // the function's first address
};
extern "C" const void* _Unwind_Find_FDE(void* pc, dwarf_eh_bases* bases);

namespace ppx::detail {
namespace {

constexpr std::uint64_t rbp_number = 6;  // System V ABI, x86-64: figure 3.36
constexpr std::uint64_t rsp_number = 7;
constexpr std::uint64_t return_number = 16;

/// The rule of a row for a register of the caller.
struct Saved {
  enum class How : std::uint8_t { unsaid, same, at_cfa, other };
  How how = How::unsaid;
  std::int64_t offset = 0;  // at_cfa: saved at CFA + offset
};

struct Row {
  bool cfa_plain = true;  // not an expression
  std::uint64_t cfa_register = 0;
  std::int64_t cfa_offset = 0;
  Saved rbp, rsp, return_address;

  Saved* saved(std::uint64_t number) {
    if (number == rbp_number) return &rbp;
    if (number == rsp_number) return &rsp;
    return number == return_number ? &return_address : nullptr;  // no other registers are needed
  }
};

/// A common information entry, shared by functions of an object file.
struct Common {
  std::uint64_t code_factor = 0;
  std::int64_t data_factor = 0;
  std::uint8_t address_encoding = 0;  // DW_EH_PE_absptr without 'R'
  ByteReader program{nullptr, nullptr};
};

/// Interprets call frame instructions up to the row of an address.
class Interpreter {
 public:
  Interpreter(const Common& common, std::uintptr_t location, std::uintptr_t pc)
      : common_(common), location_(location), pc_(pc) {}

  /// False if an instruction is unknown or truncated.
  bool run(ByteReader program) {
    while (!program.done() && location_ < pc_) {
      if (!step(program) || program.failed()) return false;
    }
    return true;
  }

  void end_of_initial() { initial_ = row_; }
  const Row& row() const { return row_; }

 private:
  bool step(ByteReader& in) {
    const auto code = in.fixed<std::uint8_t>();
    const std::uint8_t low = code & 0x3fU;
    switch (code & 0xc0U) {
      case 0x40:  // advance_loc
        return advance(low);
      case 0x80:  // offset
        return save(low, static_cast<std::int64_t>(in.unsigned_leb()) * common_.data_factor);
      case 0xc0:  // restore
        return restore(low);
      default:
        return extended(low, in);
    }
  }

  bool extended(std::uint8_t code, ByteReader& in) {
    switch (code) {
      case 0x00:  // nop
        return true;
      case 0x02:
        return advance(in.fixed<std::uint8_t>());
      case 0x03:
        return advance(in.fixed<std::uint16_t>());
      case 0x04:
        return advance(in.fixed<std::uint32_t>());
      case 0x0a:  // remember_state
        remembered_.push_back(row_);
        return true;
      case 0x0b:  // restore_state
        if (remembered_.empty()) return false;
        row_ = remembered_.back();
        remembered_.pop_back();
        return true;
      case 0x2e:  // GNU_args_size
        in.unsigned_leb();
        return true;
      default:
        return code >= 0x0c && code <= 0x13 && code != 0x10 && code != 0x11 ? define_cfa(code, in)
                                                                            : define_register(code, in);
    }
  }

  bool define_cfa(std::uint8_t code, ByteReader& in) {
    if (code == 0x0f) {  // def_cfa_expression
      in.skip(in.unsigned_leb());
      row_.cfa_plain = false;
      return true;
    }
    const bool scaled = code == 0x12 || code == 0x13;  // def_cfa_sf, def_cfa_offset_sf
    if (code == 0x0c || code == 0x0d || code == 0x12) row_.cfa_register = in.unsigned_leb();
    if (code != 0x0d) {
      row_.cfa_offset = scaled ? in.signed_leb() * common_.data_factor : static_cast<std::int64_t>(in.unsigned_leb());
    }
    // Only an instruction that sets both replaces an expression.
    if (code == 0x0c || code == 0x12) row_.cfa_plain = true;
    return true;
  }

  bool define_register(std::uint8_t code, ByteReader& in) {
    const std::uint64_t number = in.unsigned_leb();
    switch (code) {
      case 0x05:  // offset_extended
        return save(number, static_cast<std::int64_t>(in.unsigned_leb()) * common_.data_factor);
      case 0x06:  // restore_extended
        return restore(number);
      case 0x07:  // undefined
        return put(number, {Saved::How::other, 0});
      case 0x08:  // same_value
        return put(number, {Saved::How::same, 0});
      case 0x09:  // register
      case 0x14:  // val_offset
      case 0x15:  // val_offset_sf: has one more number, which is not needed
        in.unsigned_leb();
        return put(number, {Saved::How::other, 0});
      case 0x10:  // expression
      case 0x16:  // val_expression
        in.skip(in.unsigned_leb());
        return put(number, {Saved::How::other, 0});
      case 0x11:  // offset_extended_sf
        return save(number, in.signed_leb() * common_.data_factor);
      default:  // set_loc, instructions of other platforms, and newer ones
        return false;
    }
  }

  bool advance(std::uint64_t units) {
    location_ += units * common_.code_factor;
    return true;
  }
  bool save(std::uint64_t number, std::int64_t offset) { return put(number, {Saved::How::at_cfa, offset}); }
  bool put(std::uint64_t number, Saved saved) {
    if (Saved* const place = row_.saved(number)) *place = saved;
    return true;
  }
  bool restore(std::uint64_t number) {
    const Saved* const initial = initial_.saved(number);
    return initial == nullptr || put(number, *initial);
  }

  const Common& common_;
  std::uintptr_t location_;
  std::uintptr_t pc_;
  Row row_;
  Row initial_;
  std::vector<Row> remembered_;
};

/// The entry at this position, without its length; empty for the 64-bit format and at the end of a section.
ByteReader entry_at(const std::uint8_t* at) {
  std::uint32_t length = 0;
  std::memcpy(&length, at, sizeof length);
  if (length >= 0xfffffff0U) length = 0;
  return {at + sizeof length, at + sizeof length + length};
}

bool read_augmentation(std::string_view letters, ByteReader data, Common& common) {
  for (const char letter : letters.substr(1)) {
    if (letter == 'R') {
      common.address_encoding = data.fixed<std::uint8_t>();
    } else if (letter == 'L') {
      data.fixed<std::uint8_t>();
    } else if (letter == 'P') {
      const std::uint8_t encoding = data.fixed<std::uint8_t>();
      const unsigned form = encoding & 0x0fU;
      if (encoding == 0x50) return false;  // aligned: not used by compilers for x86-64
      data.skip(form == 0x02 || form == 0x0a ? 2 : form == 0x03 || form == 0x0b ? 4 : 8);
    } else {
      return false;  // 'S', a signal frame, or an unknown letter
    }
  }
  return !data.failed();
}

std::optional<Common> read_common(const std::uint8_t* at) {
  ByteReader in = entry_at(at);
  if (in.fixed<std::uint32_t>() != 0) return std::nullopt;
  const auto version = in.fixed<std::uint8_t>();
  if (version != 1 && version != 3) return std::nullopt;
  const std::string_view augmentation = in.text();
  if (augmentation.empty() || augmentation[0] != 'z') return std::nullopt;
  Common common;
  common.code_factor = in.unsigned_leb();
  common.data_factor = in.signed_leb();
  const std::uint64_t column = version == 1 ? in.fixed<std::uint8_t>() : in.unsigned_leb();
  if (column != return_number) return std::nullopt;
  const std::uint64_t length = in.unsigned_leb();
  if (!read_augmentation(augmentation, in.part(length), common) || in.failed()) return std::nullopt;
  common.program = in;
  return common;
}

/// Size in bytes of an address in the entry of a function; 0: unknown.
std::size_t address_size(std::uint8_t encoding) {
  switch (encoding & 0x0fU) {
    case 0x00:  // absptr
    case 0x04:  // udata8
    case 0x0c:  // sdata8
      return 8;
    case 0x03:  // udata4
    case 0x0b:  // sdata4
      return 4;
    default:
      return 0;
  }
}

std::optional<Row> find_row(const std::uint8_t* entry, std::uintptr_t function, std::uintptr_t pc) {
  ByteReader in = entry_at(entry);
  const auto back = in.fixed<std::uint32_t>();
  if (in.failed() || back == 0) return std::nullopt;
  const std::optional<Common> common = read_common(entry + sizeof(std::uint32_t) - back);
  if (!common) return std::nullopt;
  const std::size_t size = address_size(common->address_encoding);
  if (size == 0) return std::nullopt;
  in.skip(2 * size);  // first address, which is `function`, and length
  in.skip(in.unsigned_leb());
  if (in.failed()) return std::nullopt;
  Interpreter interpreter(*common, function, pc);
  if (!interpreter.run(common->program)) return std::nullopt;
  interpreter.end_of_initial();
  if (!interpreter.run(in)) return std::nullopt;
  return interpreter.row();
}

FrameRule to_rule(const Row& row) {
  constexpr std::int64_t largest = std::numeric_limits<std::int32_t>::max();
  const bool from_rbp = row.cfa_register == rbp_number;
  if (!row.cfa_plain || !(from_rbp || row.cfa_register == rsp_number)) return {};
  if (row.cfa_offset < 8 || row.cfa_offset > largest) return {};
  if (row.return_address.how != Saved::How::at_cfa || row.return_address.offset != -8) return {};
  if (row.rsp.how != Saved::How::unsaid) return {};
  FrameRule rule;
  if (row.rbp.how == Saved::How::at_cfa) {
    if (row.rbp.offset > -16 || row.rbp.offset < -largest) return {};
    rule.rbp_below_cfa = static_cast<std::uint32_t>(-row.rbp.offset);
  } else if (row.rbp.how == Saved::How::other) {
    return {};
  }
  rule.kind = from_rbp ? FrameRule::Kind::from_rbp : FrameRule::Kind::from_rsp;
  rule.cfa_offset = static_cast<std::uint32_t>(row.cfa_offset);
  return rule;
}

}  // namespace

std::optional<FrameRule> find_frame_rule(std::uintptr_t pc) {
  dwarf_eh_bases bases{};
  // A call may be the last instruction of a function; it then returns to the next function.
  const void* const entry = _Unwind_Find_FDE(reinterpret_cast<void*>(pc - 1), &bases);
  if (entry == nullptr) return std::nullopt;
  const auto function = reinterpret_cast<std::uintptr_t>(bases.func);
  const std::optional<Row> row = find_row(static_cast<const std::uint8_t*>(entry), function, pc);
  return row ? to_rule(*row) : FrameRule{};
}

}  // namespace ppx::detail

#else

namespace ppx::detail {

std::optional<FrameRule> find_frame_rule(std::uintptr_t) { return FrameRule{}; }

}  // namespace ppx::detail

#endif
