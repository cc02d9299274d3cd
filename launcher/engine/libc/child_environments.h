#ifndef PYLAUNCH_LAUNCHER_ENGINE_LIBC_CHILD_ENVIRONMENTS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_LIBC_CHILD_ENVIRONMENTS_H_

namespace pylaunch::engine {

// A child process that is given its whole environment (Popen(env={...}), os.posix_spawn) inherits
// nothing of ours, so what it reads there is no read of this process's. Where its values come from,
// who made that environment has read, which is seen. That a child is one of these must be proved,
// all others may have read everything:
// - The engine stands before libc's execve, fexecve, posix_spawn and posix_spawnp. A child that was
//   forked comes by there with the engine in its memory, and tells in a page that it shares with
//   its parent, as it does if it reads a variable of ours before or has children of its own.
// - How many children there were, nobody tells, but the kernel sums up the page faults of those
//   that have been waited for, and wait4(2) tells each one's; the engine stands before wait(2) and
//   its relatives. What the sum has and the proved children have not, another child did. (Those of
//   system(3) and popen(3) inherit, and libc waits for them itself; nor does it come by here from
//   execle and execvpe.)

// From here on, in this process.
void WatchChildren();
// Ends it. `unproved`: children have run, and may have read. `any`: some have run at all.
struct ChildrenSeen {
  bool any = false;
  bool unproved = false;
};
ChildrenSeen StopWatchingChildren();

// For listeners to reads: true in a child that was forked since, which is not proved any more. May
// be called in a child of vfork(2).
bool NoteReadInChild();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_LIBC_CHILD_ENVIRONMENTS_H_
