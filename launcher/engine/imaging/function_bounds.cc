#include "launcher/engine/imaging/function_bounds.h"

#include <elf.h>

#include <algorithm>
#include <cstring>

namespace pylaunch::engine {
namespace {

// DW_EH_PE_*
constexpr uint8_t kRelativeToHere4 = 0x1b, kRelativeToHere8 = 0x1c, kRelativeToTable4 = 0x3b,
                  kUnsigned4 = 0x03;

template <typename T>
T Load(const uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

// Skips a LEB128.
const uint8_t* Skip(const uint8_t* at) {
  while ((*at++ & 0x80) != 0) {
  }
  return at;
}

// How addresses of functions stand in the entries of a CIE; 0: unknown.
uint8_t Encoding(const uint8_t* cie) {
  if (Load<uint32_t>(cie) == ~uint32_t{0} || Load<uint32_t>(cie + 4) != 0) return 0;
  const uint8_t version = cie[8];
  const auto* augmentation = reinterpret_cast<const char*>(cie + 9);
  if (augmentation[0] != 'z') return 0;
  const uint8_t* at = cie + 9 + std::strlen(augmentation) + 1;
  at = Skip(Skip(at));                    // Alignments of code and data.
  at = version == 1 ? at + 1 : Skip(at);  // Return address.
  at = Skip(at);                          // Size of what follows.
  for (const char* letter = augmentation + 1; *letter != '\0'; ++letter) {
    switch (*letter) {
      case 'R':
        return *at;
      case 'L':
        ++at;
        break;
      case 'P':
        at += 1 + ((*at & 7) == 4 || (*at & 7) == 0 ? 8 : 4);
        break;
      case 'S':
      case 'B':
        break;
      default:
        return 0;
    }
  }
  return 0;
}

std::optional<FunctionBounds> BoundsOf(const uint8_t* fde) {
  if (Load<uint32_t>(fde) == ~uint32_t{0}) return std::nullopt;
  const uint8_t* pointer = fde + 4;
  const uint8_t encoding = Encoding(pointer - Load<uint32_t>(pointer));
  const uint8_t* at = fde + 8;
  if (encoding == kRelativeToHere4) {
    const uint8_t* begin = at + Load<int32_t>(at);
    return FunctionBounds{begin, begin + Load<uint32_t>(at + 4)};
  }
  if (encoding == kRelativeToHere8) {
    const uint8_t* begin = at + Load<int64_t>(at);
    return FunctionBounds{begin, begin + Load<uint64_t>(at + 8)};
  }
  return std::nullopt;
}

}  // namespace

std::optional<FunctionBounds> FunctionAt(const dl_phdr_info& object, const uint8_t* at) {
  const uint8_t* header = nullptr;
  for (size_t i = 0; i < object.dlpi_phnum; ++i) {
    if (object.dlpi_phdr[i].p_type == PT_GNU_EH_FRAME) {
      header = reinterpret_cast<const uint8_t*>(object.dlpi_addr + object.dlpi_phdr[i].p_vaddr);
    }
  }
  // Version, encodings of the pointer to .eh_frame, of the number of entries and of the entries.
  const uint8_t expected[] = {1, kRelativeToHere4, kUnsigned4, kRelativeToTable4};
  if (header == nullptr || std::memcmp(header, expected, sizeof expected) != 0) return std::nullopt;
  struct Entry {
    int32_t function, fde;  // From the header on.
  };
  const auto* table = reinterpret_cast<const Entry*>(header + 12);
  const auto* end = table + Load<uint32_t>(header + 8);
  const auto* after = std::upper_bound(
      table, end, at,
      [header](const uint8_t* wanted, const Entry& e) { return wanted < header + e.function; });
  if (after == table) return std::nullopt;
  const std::optional<FunctionBounds> bounds = BoundsOf(header + after[-1].fde);
  const bool within = bounds && bounds->begin <= at && at < bounds->end;
  return within ? bounds : std::nullopt;
}

}  // namespace pylaunch::engine
