#include "image/own_stack.h"

#include <sys/mman.h>
#include <sys/random.h>
#include <ucontext.h>

#include <cstdlib>

#include "image/format.h"

// ld.so's, among what it makes read-only after start-up (elf/dl-support.c,
// sysdeps/generic/ldsodefs.h).
extern "C" void* __libc_stack_end;

namespace pylaunch::image {
namespace {

// Where nobody maps anything: programs lie below or above, mmap(2) begins far above and goes down,
// and what asks for a place by a hint asks for others (mimalloc up to 30 TiB, Go from
// 0xc000000000). So the kernel has room to let the stack grow, and 32 bits of the place are drawn.
constexpr uint64_t kLowest = uint64_t{48} << 40;
constexpr uint64_t kPlaces = uint64_t{1} << 32;

// On the new stack Run begins with nothing of ours, and OwnStackEnd is asked.
constinit struct {
  uint64_t end = 0;
  int (*body)() = nullptr;
  ucontext_t context = {};
} g;

void Run() { exit(g.body()); }

bool TellLibc(uint64_t stack_end) {
  const uint64_t page = reinterpret_cast<uint64_t>(&__libc_stack_end) & ~(kPage - 1);
  void* at = reinterpret_cast<void*>(page);
  if (mprotect(at, kPage, PROT_READ | PROT_WRITE) != 0) return false;
  __libc_stack_end = reinterpret_cast<void*>(stack_end);
  mprotect(at, kPage, PROT_READ);
  return true;
}

// A mapping that the kernel takes for a stack (VM_GROWSDOWN): it grows at a fault below it, up to
// what RLIMIT_STACK is then, and counts as a stack's in RLIMIT_AS and RLIMIT_DATA (mm/mmap.c
// acct_stack_growth). Null: there is none.
uint64_t MapTop() {
  constexpr int kAttempts = 16;
  for (int i = 0; i < kAttempts; ++i) {
    uint64_t drawn = 0;
    if (getrandom(&drawn, sizeof drawn, 0) != sizeof drawn) return 0;
    void* at = reinterpret_cast<void*>(kLowest + drawn % kPlaces * kPage);
    void* got = mmap(at, kOwnStackTop, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_GROWSDOWN, -1, 0);
    if (got == at) return reinterpret_cast<uint64_t>(at);
    if (got != MAP_FAILED) munmap(got, kOwnStackTop);  // A kernel before 4.17 takes it for a hint.
  }
  return 0;
}

// Returns only if there is no way to.
void Switch(uint64_t low) {
  if (getcontext(&g.context) != 0) return;
  g.context.uc_stack.ss_sp = reinterpret_cast<void*>(low);
  g.context.uc_stack.ss_size = kOwnStackTop - 64;
  g.context.uc_link = nullptr;
  makecontext(&g.context, Run, 0);
  setcontext(&g.context);
}

}  // namespace

void RunOnOwnStack(int (*body)()) {
  const uint64_t low = MapTop();
  // glibc takes the page of __libc_stack_end for the stack's last.
  if (low == 0 || !TellLibc(low + kOwnStackTop - 16)) return;
  g.end = low + kOwnStackTop;
  g.body = body;
  Switch(low);
}

uint64_t OwnStackEnd() { return g.end; }

}  // namespace pylaunch::image
