#ifndef PYLAUNCH_LAUNCHER_ENGINE_LIBC_START_CALLS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_LIBC_START_CALLS_H_

namespace pylaunch::engine {

// Like the calls of file_calls.h, those by which a process asks how it was started come to the
// engine first: isatty(3), getcwd(3), read(2), gethostname(2), and uname(2) but for CPython's, of
// which host_name_reads.h knows more. Not seen: libc's own (C's stdin), and what asks
// a terminal otherwise (ioctl(2)).
//
// And those by which it asks who runs it: getuid(2) and its like, and what the user database says
// of a number (getpwuid(3)), which is `kUserEntry`; or whether that may write somewhere
// (access(2)). And how many processors there are, or which it may use: sysconf(3),
// sched_getaffinity(2).
enum class StartCall {
  kIsTerminal,
  kWorkingDirectory,
  kReadInput,
  kHostName,
  kUser,
  kUserEntry,
  kProcessors
};

// `fd`: of isatty and read, which are told for the standard streams and standard input alone.
// Before the call, on any thread, with or without the GIL; errno is kept.
using StartListener = void (*)(StartCall call, int fd);

// Null: nobody.
void ListenToStartCalls(StartListener listener);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_LIBC_START_CALLS_H_
