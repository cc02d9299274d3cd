#include "launcher/engine/start/memory_ahead.h"

#include <Python.h>
#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

namespace pylaunch::engine {
namespace {

constexpr uintptr_t kPage = 4096;
constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE, which Debian 11's headers lack.

// Up to 3.11 nearly all of CPython's own data are objects whose references are counted; from 3.12
// on those are immortal (PEP 683), and more than a third of it is never written.
#if PY_VERSION_HEX < 0x030C0000
// dl_iterate_phdr's: the first is the executable. One that is moved, or whose Python is a library,
// has been written all over by the dynamic loader.
int TakeExecutable(dl_phdr_info* executable, size_t, void*) {
  uintptr_t read_only_end = 0;
  uintptr_t start = 0, end = 0;
  for (int i = 0; i < executable->dlpi_phnum; ++i) {
    const ElfW(Phdr)& part = executable->dlpi_phdr[i];
    if (part.p_type == PT_GNU_RELRO) read_only_end = part.p_vaddr + part.p_memsz;
    if (part.p_type != PT_LOAD || (part.p_flags & PF_W) == 0) continue;
    start = part.p_vaddr;
    end = part.p_vaddr + part.p_filesz;
  }
  const uintptr_t type = reinterpret_cast<uintptr_t>(&PyType_Type);
  if (executable->dlpi_addr != 0 || type < start || type >= end) return 1;
  start = std::max(start, read_only_end) & -kPage;
  end = (end + kPage - 1) & -kPage;
  Populate(reinterpret_cast<void*>(start), end - start);
  return 1;
}
#endif

}  // namespace

void Populate(void* start, size_t size) {
  const int error = errno;
  madvise(start, size, kPopulateWrite);
  errno = error;
}

void TakeDataAhead() {
#if PY_VERSION_HEX < 0x030C0000
  dl_iterate_phdr(TakeExecutable, nullptr);
#endif
}

}  // namespace pylaunch::engine
