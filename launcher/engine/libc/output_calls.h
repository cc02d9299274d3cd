#ifndef PYLAUNCH_LAUNCHER_ENGINE_LIBC_OUTPUT_CALLS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_LIBC_OUTPUT_CALLS_H_

#include <cstddef>
#include <cstdint>

namespace pylaunch::engine {

// The engine stands before write(2), writev(2), system(3), popen(3) and all of exec(3) that
// takes a vector. Not seen: libc's own calls,
// so nothing that C's streams write, and what is written otherwise (send(2), sendfile(2),
// io_uring).
struct OutputListener {
  // All are called in this process and in those that it forked, those of vfork(2) too, and in
  // signal handlers: they may neither lock nor allocate. errno is kept.
  //
  // Before a call that writes.
  void (*writing)();
  // After it, piece by piece. `ours`: the engine has called.
  void (*written)(int fd, const void* bytes, size_t size, bool ours);
  // A process is about to execute something: this one, or one that it forked, `here`; or the C
  // library makes a child, with this process's descriptors but for what nobody can see.
  void (*executing)(bool here);
  // After a call of read(2) that has read as much. Not by the engine.
  void (*read)(int fd, size_t size);
  // Before this process waits for a child by wait(2) and its relatives; returns what `reaped` gets
  // after that, if a child has ended.
  int64_t (*waiting)();
  void (*reaped)(int64_t before);
};

// `listener` must stay. Null: nobody.
void ListenToOutput(const OutputListener* listener);

// For child_environments and start_calls.
void TellExecuting(bool here);
void TellRead(const void* caller, int fd, long size);
int64_t TellWaiting();
void TellReaped(int64_t before);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_LIBC_OUTPUT_CALLS_H_
