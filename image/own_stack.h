#ifndef PYLAUNCH_IMAGE_OWN_STACK_H_
#define PYLAUNCH_IMAGE_OWN_STACK_H_

#include <cstdint>

// The main thread of a process that is to become an image runs on a stack of its own: the kernel's
// lies where the kernel has drawn it, and a restored process has another one.

namespace pylaunch::image {

struct OwnStack {
  uint64_t low = 0;  // One mapping, [low, high), with a page that faults on either side.
  uint64_t high = 0;
};

// Never returns: calls `body` on a new stack of 1 GiB, or of as much as there is room for, at least
// 64 MiB, and exits with what it returns. glibc is told of the stack (__libc_stack_end), so that
// pthread_getattr_np(3) describes it: as large as the soft RLIMIT_STACK says, but no larger than it
// is (nptl/pthread_getattr_np.c). Returns only if there is no memory for it.
void RunOnOwnStack(int (*body)());

// The stack that RunOnOwnStack made; all 0 before.
const OwnStack& TheOwnStack();

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_OWN_STACK_H_
