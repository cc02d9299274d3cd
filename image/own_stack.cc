#include "image/own_stack.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdlib>

#include "image/format.h"

// ld.so's, among what it makes read-only after start-up (elf/dl-support.c,
// sysdeps/generic/ldsodefs.h).
extern "C" void* __libc_stack_end;

namespace pylaunch::image {
namespace {

constexpr uint64_t kLeast = 64 << 20;
constexpr uint64_t kMost = 1 << 30;

OwnStack g_stack;
int (*g_body)() = nullptr;

void Run() { exit(g_body()); }

bool TellLibc(uint64_t stack_end) {
  const uint64_t page = reinterpret_cast<uint64_t>(&__libc_stack_end) & ~(kPage - 1);
  void* at = reinterpret_cast<void*>(page);
  if (mprotect(at, kPage, PROT_READ | PROT_WRITE) != 0) return false;
  __libc_stack_end = reinterpret_cast<void*>(stack_end);
  mprotect(at, kPage, PROT_READ);
  return true;
}

// Returns only if there is no way to.
void Switch(const OwnStack& stack) {
  static ucontext_t context;
  if (getcontext(&context) != 0) return;
  context.uc_stack.ss_sp = reinterpret_cast<void*>(stack.low);
  context.uc_stack.ss_size = stack.high - stack.low - 64;
  context.uc_link = nullptr;
  makecontext(&context, Run, 0);
  setcontext(&context);
}

}  // namespace

void RunOnOwnStack(uint64_t wanted, int (*body)()) {
  const uint64_t size = std::clamp(wanted & ~(kPage - 1), kLeast, kMost);
  void* block = mmap(nullptr, size + 2 * kPage, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (block == MAP_FAILED) return;
  const uint64_t low = reinterpret_cast<uint64_t>(block) + kPage;
  // glibc takes the page of __libc_stack_end for the stack's last.
  if (mprotect(reinterpret_cast<void*>(low), size, PROT_READ | PROT_WRITE) != 0 ||
      !TellLibc(low + size - 16)) {
    munmap(block, size + 2 * kPage);
    return;
  }
  g_stack = {low, low + size};
  g_body = body;
  Switch(g_stack);
}

const OwnStack& TheOwnStack() { return g_stack; }

}  // namespace pylaunch::image
