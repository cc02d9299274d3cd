#include "launcher/engine/imaging/kernel_registrations.h"

#include <dlfcn.h>
#include <linux/membarrier.h>
#include <linux/rseq.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>

namespace pylaunch::engine {
namespace {

// glibc 2.35 and later register one area per thread (sysdeps/unix/sysv/linux/rseq-internal.h); the
// kernel knows nothing of it in a restored process, and the processor number in it is the image's.
void RegisterRseq() {
  const auto* offset = static_cast<const ptrdiff_t*>(dlsym(RTLD_DEFAULT, "__rseq_offset"));
  const auto* size = static_cast<const unsigned*>(dlsym(RTLD_DEFAULT, "__rseq_size"));
  if (offset == nullptr || size == nullptr || *size == 0) return;
  constexpr unsigned kSize = 32;  // What glibc registers, whatever part of it __rseq_size tells.
  constexpr unsigned kSignature = 0x53053053;  // RSEQ_SIG (bits/rseq.h)
  char* thread = static_cast<char*>(__builtin_thread_pointer());
  auto* area = reinterpret_cast<struct rseq*>(thread + *offset);
  area->rseq_cs = 0;
  area->cpu_id_start = 0;
  area->cpu_id = static_cast<unsigned>(RSEQ_CPU_ID_UNINITIALIZED);
  if (syscall(SYS_rseq, area, kSize, 0, kSignature) != 0) {
    area->cpu_id = static_cast<unsigned>(RSEQ_CPU_ID_REGISTRATION_FAILED);
  }
}

constexpr int kGetRegistrations = 1 << 9;  // MEMBARRIER_CMD_GET_REGISTRATIONS, Linux 6.3.

}  // namespace

KernelRegistrations KernelRegistrations::Now() {
  const long told = syscall(SYS_membarrier, kGetRegistrations, 0, 0);
  return {static_cast<int>(std::max(told, 0L))};
}

void KernelRegistrations::Repeat() const {
  RegisterRseq();
  for (int command = 1; command <= barriers; command <<= 1) {
    if ((barriers & command) != 0) syscall(SYS_membarrier, command, 0, 0);
  }
}

}  // namespace pylaunch::engine
