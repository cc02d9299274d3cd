#ifndef PYLAUNCH_LAUNCHER_ENGINE_LIBC_FILE_CALLS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_LIBC_FILE_CALLS_H_

namespace pylaunch::engine {

// The engine stands before libc in the dynamic loader's order, so the calls of this process that
// ask the file system for something by a path come to it first: open, fopen, stat, access,
// readlink, realpath, opendir, mkdir, unlink, getxattr and their relatives. They go on to libc. Not
// seen: libc's own calls (of the dynamic loader, locales, glob, nftw), the engine's, and system
// calls made by hand.

enum class FileCall {
  // Told before the call.
  kAsk,          // What stat(2) and most others do.
  kAskMayWrite,  // Whether this user may write there: access(2).
  kAskLink,      // About a path that may be a symbolic link, not what it leads to: lstat(2).
  kResolve,      // About each link on the way: realpath(3).
  kOpen,
  kList,
  kCreate,  // Written, whether it is there or not.
  // Told after the call.
  kFailed,       // What reads nothing has failed, which tells something.
  kMade,         // It has made what was not there.
  kMadePrivate,  // Likewise a folder, with the rights that Lib/tempfile.py's mkdtemp asks for.
  kMadeOwn,  // Likewise, under a name that chance drew (mkstemp(3), mkdtemp(3), Lib/tempfile.py).
};

// `folder`: the descriptor that a relative path starts from, or AT_FDCWD. `flags`: open(2)'s, 0 for
// the others. On any thread, with or without the GIL; errno is kept.
using FileListener = void (*)(FileCall call, int folder, const char* path, int flags);

// Null: nobody.
void ListenToFileCalls(FileListener listener);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_LIBC_FILE_CALLS_H_
