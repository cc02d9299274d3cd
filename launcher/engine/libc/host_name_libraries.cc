#include "launcher/engine/libc/host_name_libraries.h"

#include <link.h>

#include <cstdint>
#include <string_view>

#include "launcher/engine/base/build_id.h"

namespace pylaunch::engine {
namespace {

constexpr std::string_view kLibraries =
#include "host_name_libraries.inc"
    ;
constexpr size_t kBuildIdSize = 20;  // SHA-1, as linkers make it.

struct Search {
  uintptr_t address;
  bool listed;
};

// Among the versions of known_list.h's lines, of which this list has no others than build-ids.
bool IsListed(std::string_view id) {
  if (id.size() != kBuildIdSize) return false;
  char digits[2 * kBuildIdSize];
  for (size_t i = 0; i < kBuildIdSize; ++i) {
    constexpr char kDigits[] = "0123456789abcdef";
    digits[2 * i] = kDigits[static_cast<unsigned char>(id[i]) >> 4];
    digits[2 * i + 1] = kDigits[static_cast<unsigned char>(id[i]) & 15];
  }
  return kLibraries.find(std::string_view(digits, sizeof digits)) != kLibraries.npos;
}

int LookAt(dl_phdr_info* info, size_t, void* data) {
  auto* search = static_cast<Search*>(data);
  bool inside = false;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& part = info->dlpi_phdr[i];
    const uintptr_t start = info->dlpi_addr + part.p_vaddr;
    inside |= part.p_type == PT_LOAD && search->address - start < part.p_memsz;
  }
  if (!inside) return 0;
  search->listed = IsListed(BuildId(*info));
  return 1;
}

}  // namespace

bool KeepsNoHostName(const void* caller) {
  Search search = {reinterpret_cast<uintptr_t>(caller), false};
  dl_iterate_phdr(LookAt, &search);
  return search.listed;
}

}  // namespace pylaunch::engine
