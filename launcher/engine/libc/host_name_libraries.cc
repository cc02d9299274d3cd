#include "launcher/engine/libc/host_name_libraries.h"

#include <cstdint>
#include <string_view>

#include "launcher/engine/base/build_id.h"
#include "launcher/engine/base/loaded_object.h"

namespace pylaunch::engine {
namespace {

constexpr std::string_view kLibraries =
#include "host_name_libraries.inc"
    ;
constexpr size_t kBuildIdSize = 20;  // SHA-1, as linkers make it.

// Among the versions of known_list.h's lines, of which this list has no others than build-ids.
bool IsListed(std::string_view id) {
  if (id.size() != kBuildIdSize) return false;
  char digits[2 * kBuildIdSize];
  PutHexadecimal(id, digits);
  return kLibraries.find(std::string_view(digits, sizeof digits)) != kLibraries.npos;
}

}  // namespace

bool KeepsNoHostName(const void* caller) {
  bool listed = false;
  VisitObjectOf(caller, [&](const dl_phdr_info& object) { listed = IsListed(BuildId(object)); });
  return listed;
}

}  // namespace pylaunch::engine
