#ifndef PYLAUNCH_LAUNCHER_ENGINE_IMAGING_KERNEL_REGISTRATIONS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_IMAGING_KERNEL_REGISTRATIONS_H_

namespace pylaunch::engine {

// What a process has told the kernel of itself, what fork(2) hands on, and what execve(2) makes the
// kernel forget: what a restored process tells it again. Permission for the processor's extended
// state is another matter (processor_permission.h).
struct KernelRegistrations {
  // Commands of membarrier(2), as MEMBARRIER_CMD_GET_REGISTRATIONS gives them; none where the
  // kernel does not know that (before Linux 6.3).
  int barriers = 0;

  // Of the calling process.
  static KernelRegistrations Now();
  // In a restored process, once, in its first thread. rseq(2) for that thread, too, as glibc has
  // done it.
  void Repeat() const;
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_IMAGING_KERNEL_REGISTRATIONS_H_
