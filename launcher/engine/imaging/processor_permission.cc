#include "launcher/engine/imaging/processor_permission.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <bit>

namespace pylaunch::engine {
namespace {

// arch/x86/include/uapi/asm/prctl.h; older headers have not got them.
constexpr int kGetPermission = 0x1022;      // ARCH_GET_XCOMP_PERM
constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM

// AMX's tiles. All other components are permitted wherever there are any.
constexpr uint64_t kOnRequest = uint64_t{1} << 17 | uint64_t{1} << 18;

}  // namespace

uint64_t PermittedState() {
  uint64_t mask = 0;
  return syscall(SYS_arch_prctl, kGetPermission, &mask) == 0 ? mask & kOnRequest : 0;
}

bool RequestState(uint64_t wanted) {
  if (wanted == 0) return true;
  for (uint64_t missing = wanted & ~PermittedState(); missing != 0; missing &= missing - 1) {
    const long component = std::countr_zero(missing);
    if (syscall(SYS_arch_prctl, kRequestPermission, component) != 0) return false;
  }
  return true;
}

}  // namespace pylaunch::engine
