#include "image/own_stack.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdlib>

#include "image/format.h"

// ld.so's, among what it makes read-only after start-up (elf/dl-support.c,
// sysdeps/generic/ldsodefs.h).
extern "C" void* __libc_stack_end;

namespace pylaunch::image {
namespace {

// The kernel's stack grows to what RLIMIT_STACK is at the time of the fault (mm/mmap.c
// acct_stack_growth), and programs raise that for a deep recursion. What is not touched costs
// address space only.
constexpr uint64_t kMost = 1 << 30;
constexpr uint64_t kLeast = 64 << 20;

// Where address space is counted: by RLIMIT_AS, or because the kernel commits itself to all of it
// (vm.overcommit_memory 2, proc(5)).
bool IsSpaceScarce() {
  rlimit limit;
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur != RLIM_INFINITY) return true;
  const int fd = open("/proc/sys/vm/overcommit_memory", O_RDONLY | O_CLOEXEC);
  char mode = 0;
  if (fd >= 0 && read(fd, &mode, 1) != 1) mode = 0;
  if (fd >= 0) close(fd);
  return mode == '2';
}

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

// All 0: there is no room (RLIMIT_AS, or the kernel commits all that is writable:
// vm.overcommit_memory 2).
OwnStack Reserve(uint64_t size) {
  void* block = mmap(nullptr, size + 2 * kPage, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (block == MAP_FAILED) return {};
  const uint64_t low = reinterpret_cast<uint64_t>(block) + kPage;
  if (mprotect(reinterpret_cast<void*>(low), size, PROT_READ | PROT_WRITE) == 0) {
    return {low, low + size};
  }
  munmap(block, size + 2 * kPage);
  return {};
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

void RunOnOwnStack(int (*body)()) {
  OwnStack stack;
  const uint64_t most = IsSpaceScarce() ? kLeast : kMost;
  for (uint64_t size = most; size >= kLeast && stack.low == 0; size /= 2) stack = Reserve(size);
  // glibc takes the page of __libc_stack_end for the stack's last.
  if (stack.low == 0 || !TellLibc(stack.high - 16)) return;
  g_stack = stack;
  g_body = body;
  Switch(g_stack);
}

const OwnStack& TheOwnStack() { return g_stack; }

}  // namespace pylaunch::image
