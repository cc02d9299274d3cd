#include "launcher/engine/imaging/instruction_length.h"

#include <algorithm>
#include <iterator>

namespace pylaunch::engine {
namespace {

// What follows an opcode.
struct Form {
  bool known = true;
  bool modrm = false;
  size_t immediate = 0;
};
constexpr Form kUnknown = {false, false, 0};

struct Prefixes {
  bool operand = false;  // 66
  bool address = false;  // 67
  bool repeat = false;   // F2
  bool wide = false;     // REX.W
  size_t immediate() const { return operand && !wide ? 2 : 4; }
};

bool IsIn(uint8_t byte, uint8_t first, uint8_t last) { return byte >= first && byte <= last; }

template <size_t n>
bool IsOneOf(uint8_t byte, const uint8_t (&all)[n]) {
  return std::find(std::begin(all), std::end(all), byte) != std::end(all);
}

// Of opcodes below 40: eight instructions of arithmetic, each in six forms.
Form Arithmetic(uint8_t op, const Prefixes& prefixes) {
  switch (op & 7) {
    case 4:
      return {true, false, 1};
    case 5:
      return {true, false, prefixes.immediate()};
    case 6:
    case 7:
      return kUnknown;
    default:
      return {true, true, 0};
  }
}

Form OneByte(uint8_t op, uint8_t next, const Prefixes& prefixes) {
  const size_t full = prefixes.immediate();
  if (op < 0x40) return Arithmetic(op, prefixes);
  if (IsOneOf(op, {0x60, 0x61, 0x82, 0x9a, 0xce, 0xd4, 0xd5, 0xd6, 0xea})) return kUnknown;
  if (IsIn(op, 0x70, 0x7f) || IsIn(op, 0xb0, 0xb7) || IsIn(op, 0xe0, 0xe7)) return {true, false, 1};
  if (IsIn(op, 0xb8, 0xbf)) return {true, false, prefixes.wide ? 8 : full};
  if (IsIn(op, 0xa0, 0xa3)) return {true, false, size_t{prefixes.address ? 4u : 8u}};
  if (IsIn(op, 0x84, 0x8f) || IsIn(op, 0xd0, 0xd3) || IsIn(op, 0xd8, 0xdf)) return {true, true, 0};
  switch (op) {
    case 0x63:
    case 0xfe:
    case 0xff:
      return {true, true, 0};
    case 0x68:
    case 0xa9:
      return {true, false, full};
    case 0x69:
    case 0x81:
    case 0xc7:
      return {true, true, full};
    case 0x6a:
    case 0xa8:
    case 0xcd:
    case 0xeb:
      return {true, false, 1};
    case 0x6b:
    case 0x80:
    case 0x83:
    case 0xc0:
    case 0xc1:
    case 0xc6:
      return {true, true, 1};
    case 0xc2:
    case 0xca:
      return {true, false, 2};
    case 0xc8:
      return {true, false, 3};
    case 0xe8:
    case 0xe9:
      return {true, false, 4};
    // Only `test` has an immediate operand.
    case 0xf6:
      return {true, true, size_t{(next & 0x38) < 0x10 ? 1u : 0u}};
    case 0xf7:
      return {true, true, (next & 0x38) < 0x10 ? full : 0};
    default:
      return {};
  }
}

Form TwoByte(uint8_t op, const Prefixes& prefixes) {
  if (IsIn(op, 0x80, 0x8f)) return {true, false, 4};
  if (IsIn(op, 0xc8, 0xcf) || IsIn(op, 0x30, 0x35)) return {};
  if (IsOneOf(op, {0x05, 0x06, 0x07, 0x08, 0x09, 0x0b, 0x0e, 0x31, 0x77, 0xa0, 0xa1, 0xa2, 0xa8,
                   0xa9, 0xaa, 0x37})) {
    return {};
  }
  if (IsOneOf(op, {0x04, 0x0a, 0x0c, 0x0f, 0x36, 0x39, 0xff}) || IsIn(op, 0x24, 0x27) ||
      IsIn(op, 0x3b, 0x3f)) {
    return kUnknown;
  }
  // extrq and insertq of SSE4A have two.
  if (op == 0x78) return {true, true, size_t{prefixes.operand || prefixes.repeat ? 2u : 0u}};
  const bool immediate =
      IsIn(op, 0x70, 0x73) || IsIn(op, 0xc4, 0xc6) || IsOneOf(op, {0xa4, 0xac, 0xba, 0xc2});
  return {true, true, size_t{immediate}};
}

// Behind VEX and EVEX, by their map.
Form Vector(uint8_t map, uint8_t op, bool evex) {
  if (map == 2 || (evex && (map == 5 || map == 6))) return {true, true, 0};
  if (map == 3) return {true, true, 1};
  if (map != 1) return kUnknown;
  if (op == 0x77 && !evex) return {};
  return {true, true, size_t{IsIn(op, 0x70, 0x73) || IsIn(op, 0xc4, 0xc6) || op == 0xc2}};
}

Form Xop(uint8_t map) {
  if (map == 8) return {true, true, 1};
  if (map == 9) return {true, true, 0};
  return map == 10 ? Form{true, true, 4} : kUnknown;
}

// Of the byte that says which operands there are, and what belongs to it.
size_t OperandLength(const uint8_t* modrm, const uint8_t* end) {
  const uint8_t mode = *modrm >> 6, base = *modrm & 7;
  if (mode == 3) return 1;
  const bool scaled = base == 4;
  if (scaled && end - modrm < 2) return SIZE_MAX / 2;
  size_t displacement = mode == 0 ? 0 : mode == 1 ? 1 : 4;
  if (mode == 0 && (scaled ? (modrm[1] & 7) == 5 : base == 5)) displacement = 4;
  return 1 + size_t{scaled} + displacement;
}

const uint8_t* SkipPrefixes(const uint8_t* at, const uint8_t* end, Prefixes* prefixes) {
  for (; at < end; ++at) {
    if (!IsOneOf(*at, {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3})) break;
    prefixes->operand |= *at == 0x66;
    prefixes->address |= *at == 0x67;
    prefixes->repeat |= *at == 0xf2;
  }
  if (at < end && IsIn(*at, 0x40, 0x4f)) prefixes->wide = (*at++ & 8) != 0;
  return at;
}

}  // namespace

size_t InstructionLength(const uint8_t* code, const uint8_t* end) {
  constexpr size_t kLongest = 15;
  Prefixes prefixes;
  const uint8_t* at = SkipPrefixes(code, end, &prefixes);
  const auto has = [&](ptrdiff_t bytes) { return end - at >= bytes; };
  if (!has(1)) return 0;
  Form form;
  const uint8_t op = *at++;
  const uint8_t next = has(1) ? *at : 0;
  if (op == 0xc5 && has(2)) {
    form = Vector(1, at[1], /*evex=*/false);
    at += 2;
  } else if (op == 0xc4 && has(3)) {
    form = Vector(next & 0x1f, at[2], /*evex=*/false);
    at += 3;
  } else if (op == 0x62 && has(4)) {
    form = Vector(next & 7, at[3], /*evex=*/true);
    at += 4;
  } else if (op == 0x8f && (next & 0x1f) >= 8 && has(3)) {
    form = Xop(next & 0x1f);
    at += 3;
  } else if (op == 0x0f && has(2) && (next == 0x38 || next == 0x3a)) {
    form = {true, true, size_t{next == 0x3a}};
    at += 2;
  } else if (op == 0x0f && has(1)) {
    form = TwoByte(next, prefixes);
    at += 1;
  } else if (op == 0xc4 || op == 0xc5 || op == 0x62 || op == 0x0f) {
    return 0;
  } else {
    form = OneByte(op, next, prefixes);
  }
  if (!form.known || (form.modrm && !has(1))) return 0;
  const size_t length =
      static_cast<size_t>(at - code) + (form.modrm ? OperandLength(at, end) : 0) + form.immediate;
  return length <= kLongest && length <= static_cast<size_t>(end - code) ? length : 0;
}

}  // namespace pylaunch::engine
