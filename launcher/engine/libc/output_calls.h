#ifndef PYLAUNCH_LAUNCHER_ENGINE_LIBC_OUTPUT_CALLS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_LIBC_OUTPUT_CALLS_H_

#include <cstddef>

namespace pylaunch::engine {

// The engine stands before write(2), writev(2), system(3), popen(3) and all of exec(3) that
// takes a vector. Not seen: libc's own calls,
// so nothing that C's streams write, and what is written otherwise (send(2), sendfile(2),
// io_uring).
struct OutputListener {
  // After a call that has written these. In this process and in those that it forked, those of
  // vfork(2) too; in signal handlers: may neither lock nor allocate. errno is kept.
  void (*written)(int fd, const void* bytes, size_t size);
  // A process is about to execute something: this one, or one that it forked, `here`; or the C
  // library makes a child, with this process's descriptors but for what nobody can see.
  void (*executing)(bool here);
};

// `listener` must stay. Null: nobody.
void ListenToOutput(const OutputListener* listener);

// For child_environments.
void TellExecuting(bool here);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_LIBC_OUTPUT_CALLS_H_
