#ifndef PYLAUNCH_IMAGE_OWN_STACK_H_
#define PYLAUNCH_IMAGE_OWN_STACK_H_

#include <cstdint>

// The main thread of a process that is to become an image runs on a stack of its own: the kernel's
// lies where the kernel has drawn it, and a restored process has another one.

namespace pylaunch::image {

// What is mapped of it from the beginning, in bytes.
inline constexpr uint64_t kOwnStackTop = 132 << 10;  // As the kernel does (fs/exec.c).

// Never returns: calls `body` on a new stack, which grows as the kernel's does, and exits with what
// it returns. glibc is told of the stack (__libc_stack_end), so that pthread_getattr_np(3)
// describes it as it does the kernel's (nptl/pthread_getattr_np.c). Returns only if there is no
// memory for it.
void RunOnOwnStack(int (*body)());

// Where the stack that RunOnOwnStack made ends; 0 before.
uint64_t OwnStackEnd();

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_OWN_STACK_H_
