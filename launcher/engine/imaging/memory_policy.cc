#include "launcher/engine/imaging/memory_policy.h"

#include <fstream>
#include <limits>
#include <optional>

namespace pylaunch::engine {
namespace {

// The second word of the next line: "7f34e6c1c000 default file=... mapped=3 N0=3".
std::optional<std::string> NextPolicy(std::ifstream* maps) {
  std::string address, policy;
  if (!(*maps >> address >> policy)) return std::nullopt;
  maps->ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  return policy;
}

std::ifstream Maps() { return std::ifstream("/proc/self/numa_maps"); }

}  // namespace

std::string MemoryPolicy() {
  std::ifstream maps = Maps();
  return NextPolicy(&maps).value_or("");
}

bool HasOtherMemoryPolicy(const std::string& policy) {
  std::ifstream maps = Maps();
  while (const std::optional<std::string> found = NextPolicy(&maps)) {
    // What a process has by default is memory of the node that it runs on, which OpenBLAS asks for
    // (Documentation/admin-guide/mm/numa_memory_policy.rst).
    if (*found != policy && !(*found == "local" && policy == "default")) return true;
  }
  return false;
}

}  // namespace pylaunch::engine
