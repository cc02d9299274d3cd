// No header that declares these functions is included, because it would declare them otherwise
// (exceptions, attributes, macros for large files); their types are those of the psABI's registers.

#include "launcher/engine/libc/file_calls.h"

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "launcher/engine/libc/libc_calls.h"

namespace pylaunch::engine {
namespace {

constexpr int kHere = -100;         // AT_FDCWD
constexpr int kAccessMode = 03;     // O_ACCMODE
constexpr int kWriteOnly = 01;      // O_WRONLY
constexpr int kCreate = 0100;       // O_CREAT
constexpr int kExclusive = 0200;    // O_EXCL
constexpr int kNoFollow = 0400000;  // O_NOFOLLOW
constexpr int kOfLink = 0x100;      // AT_SYMLINK_NOFOLLOW
constexpr int kNewOnly = kCreate | kExclusive;
constexpr int kTemporary = 020200000;  // O_TMPFILE

// The functions below are called with nothing of ours.
std::atomic<FileListener> g_listener = nullptr;

void Tell(const void* caller, FileCall call, int folder, const char* path, int flags) {
  FileListener listener = g_listener.load(std::memory_order_relaxed);
  if (listener == nullptr || path == nullptr || path[0] == '\0' || IsOurs(caller)) return;
  const int error = errno;
  listener(call, folder, path, flags);
  errno = error;
}

// An open that only its success or failure tells anything of.
bool ReadsNothing(int flags) {
  return (flags & kAccessMode) == kWriteOnly || (flags & (kCreate | kExclusive)) == kNewOnly;
}

void TellOpening(const void* caller, int folder, const char* path, int flags) {
  if (!ReadsNothing(flags)) {
    const bool unnamed = (flags & kTemporary) == kTemporary;
    Tell(caller, unnamed ? FileCall::kAsk : FileCall::kOpen, folder, path, flags);
  } else if ((flags & (kCreate | kExclusive)) == kCreate) {
    Tell(caller, FileCall::kCreate, folder, path, flags);
  }
}

void TellOpened(const void* caller, int folder, const char* path, int flags, unsigned mode,
                bool failed) {
  if (!ReadsNothing(flags)) return;
  if (failed) {
    Tell(caller, FileCall::kFailed, folder, path, flags);
  } else if ((flags & (kCreate | kExclusive)) == kNewOnly) {
    // As Lib/tempfile.py opens, and hardly anybody else.
    const bool own = (flags & kNoFollow) != 0 && mode == 0600;
    Tell(caller, own ? FileCall::kMadeOwn : FileCall::kMade, folder, path, flags);
  }
}

// What fopen(3) makes of them: "w" and "a" read nothing.
int FlagsOf(const char* mode) {
  if (mode == nullptr) return 0;
  const bool append = mode[0] == 'a' && std::strchr(mode, '+') == nullptr;
  if (mode[0] != 'w' && !append) return 0;
  bool exclusive = false;
  for (const char* c = mode; *c != '\0'; ++c) exclusive = exclusive || *c == 'x';
  return kWriteOnly | kCreate | (exclusive ? kExclusive : 0);
}

FileCall Made(unsigned mode) { return mode == 0700 ? FileCall::kMadePrivate : FileCall::kMade; }

FileCall AskOf(int flags) { return (flags & kOfLink) != 0 ? FileCall::kAskLink : FileCall::kAsk; }

// access(2), W_OK.
constexpr int kMayWrite = 2;
FileCall AccessOf(int mode) {
  return (mode & kMayWrite) != 0 ? FileCall::kAskMayWrite : FileCall::kAsk;
}

bool Failed(int result) { return result < 0; }
bool Failed(const void* result) { return result == nullptr; }

}  // namespace

void ListenToFileCalls(FileListener listener) { g_listener = listener; }

}  // namespace pylaunch::engine

#define PASS_ON(result, name, parameters, arguments, call, folder, path)        \
  extern "C" __attribute__((visibility("default"))) result name parameters {    \
    using Function = result(*) parameters;                                      \
    PYLAUNCH_LIBC(name)                                                         \
    pylaunch::engine::Tell(__builtin_return_address(0), call, folder, path, 0); \
    return libc.Get() arguments;                                                \
  }

// What glibc has as a function from 2.33 on. `older`: what it was compiled to before, which is one
// of ours below, and tells nothing when we call it.
#define PASS_ON_STAT(name, parameters, arguments, call, folder, path, older)    \
  extern "C" __attribute__((visibility("default"))) int name parameters {       \
    using Function = int(*) parameters;                                         \
    PYLAUNCH_LIBC(name)                                                         \
    pylaunch::engine::Tell(__builtin_return_address(0), call, folder, path, 0); \
    const Function known = libc.GetIfAny();                                     \
    return known != nullptr ? known arguments : older;                          \
  }
extern "C" int __xstat(int version, const char* path, void* to);
extern "C" int __lxstat(int version, const char* path, void* to);
extern "C" int __fxstatat(int version, int folder, const char* path, void* to, int flags);

// `made`: what to tell of a success.
#define PASS_ON_MAKING(result, name, parameters, arguments, folder, path, made)                  \
  extern "C" __attribute__((visibility("default"))) result name parameters {                     \
    using Function = result(*) parameters;                                                       \
    PYLAUNCH_LIBC(name)                                                                          \
    namespace engine = pylaunch::engine;                                                         \
    const auto done = libc.Get() arguments;                                                      \
    const bool failed = engine::Failed(done);                                                    \
    engine::Tell(__builtin_return_address(0), failed ? engine::FileCall::kFailed : made, folder, \
                 path, 0);                                                                       \
    return done;                                                                                 \
  }

#define PASS_ON_OPENING(result, name, parameters, arguments, folder, path, flags) \
  extern "C" __attribute__((visibility("default"))) result name parameters {      \
    using Function = result(*) parameters;                                        \
    PYLAUNCH_LIBC(name)                                                           \
    namespace engine = pylaunch::engine;                                          \
    engine::TellOpening(__builtin_return_address(0), folder, path, flags);        \
    const auto opened = libc.Get() arguments;                                     \
    engine::TellOpened(__builtin_return_address(0), folder, path, flags, 0,       \
                       engine::Failed(opened));                                   \
    return opened;                                                                \
  }

// The mode is there only with some flags (open(2)).
#define PASS_ON_OPEN(name, first_parameter, first_argument, folder)                             \
  extern "C" __attribute__((visibility("default"))) int name(first_parameter const char* path,  \
                                                             int flags, ...) {                  \
    using Function = int (*)(first_parameter const char*, int, ...);                            \
    PYLAUNCH_LIBC(name)                                                                         \
    namespace engine = pylaunch::engine;                                                        \
    engine::TellOpening(__builtin_return_address(0), folder, path, flags);                      \
    unsigned mode = 0;                                                                          \
    if ((flags & engine::kCreate) != 0 || (flags & engine::kTemporary) == engine::kTemporary) { \
      va_list rest;                                                                             \
      va_start(rest, flags);                                                                    \
      mode = va_arg(rest, unsigned);                                                            \
      va_end(rest);                                                                             \
    }                                                                                           \
    const int opened = libc.Get()(first_argument path, flags, mode);                            \
    engine::TellOpened(__builtin_return_address(0), folder, path, flags, mode,                  \
                       engine::Failed(opened));                                                 \
    return opened;                                                                              \
  }

#define COMMA ,
using enum pylaunch::engine::FileCall;
using pylaunch::engine::AccessOf;
using pylaunch::engine::AskOf;
using pylaunch::engine::FlagsOf;
using pylaunch::engine::kHere;
using pylaunch::engine::Made;

PASS_ON_OPEN(open, , , kHere)
PASS_ON_OPEN(open64, , , kHere)
PASS_ON_OPEN(openat, int folder COMMA, folder COMMA, folder)
PASS_ON_OPEN(openat64, int folder COMMA, folder COMMA, folder)
PASS_ON_OPENING(int, __open_2, (const char* path, int flags), (path, flags), kHere, path, flags)
PASS_ON_OPENING(int, __open64_2, (const char* path, int flags), (path, flags), kHere, path, flags)
PASS_ON_OPENING(int, __openat_2, (int folder, const char* path, int flags), (folder, path, flags),
                folder, path, flags)
PASS_ON_OPENING(int, __openat64_2, (int folder, const char* path, int flags), (folder, path, flags),
                folder, path, flags)
PASS_ON_OPENING(FILE*, fopen, (const char* path, const char* mode), (path, mode), kHere, path,
                FlagsOf(mode))
PASS_ON_OPENING(FILE*, fopen64, (const char* path, const char* mode), (path, mode), kHere, path,
                FlagsOf(mode))

PASS_ON_MAKING(int, mkdir, (const char* path, unsigned mode), (path, mode), kHere, path, Made(mode))
PASS_ON_MAKING(int, mkdirat, (int folder, const char* path, unsigned mode), (folder, path, mode),
               folder, path, Made(mode))
PASS_ON_MAKING(char*, mkdtemp, (char* path), (path), kHere, path, kMadeOwn)
PASS_ON_MAKING(int, mkstemp, (char* path), (path), kHere, path, kMadeOwn)
PASS_ON_MAKING(int, mkstemp64, (char* path), (path), kHere, path, kMadeOwn)
PASS_ON_MAKING(int, mkostemp, (char* path, int flags), (path, flags), kHere, path, kMadeOwn)
PASS_ON_MAKING(int, mkostemp64, (char* path, int flags), (path, flags), kHere, path, kMadeOwn)
PASS_ON_MAKING(int, mkstemps, (char* path, int length), (path, length), kHere, path, kMadeOwn)
PASS_ON_MAKING(int, mkstemps64, (char* path, int length), (path, length), kHere, path, kMadeOwn)

PASS_ON_STAT(stat, (const char* path, void* to), (path, to), kAsk, kHere, path,
             __xstat(1, path, to))
PASS_ON_STAT(stat64, (const char* path, void* to), (path, to), kAsk, kHere, path,
             __xstat(1, path, to))
PASS_ON_STAT(lstat, (const char* path, void* to), (path, to), kAskLink, kHere, path,
             __lxstat(1, path, to))
PASS_ON_STAT(lstat64, (const char* path, void* to), (path, to), kAskLink, kHere, path,
             __lxstat(1, path, to))
PASS_ON_STAT(fstatat, (int folder, const char* path, void* to, int flags),
             (folder, path, to, flags), AskOf(flags), folder, path,
             __fxstatat(1, folder, path, to, flags))
PASS_ON_STAT(fstatat64, (int folder, const char* path, void* to, int flags),
             (folder, path, to, flags), AskOf(flags), folder, path,
             __fxstatat(1, folder, path, to, flags))
PASS_ON(int, statx, (int folder, const char* path, int flags, unsigned mask, void* to),
        (folder, path, flags, mask, to), AskOf(flags), folder, path)
// What stat(2) was compiled to before glibc 2.33.
PASS_ON(int, __xstat, (int version, const char* path, void* to), (version, path, to), kAsk, kHere,
        path)
PASS_ON(int, __xstat64, (int version, const char* path, void* to), (version, path, to), kAsk, kHere,
        path)
PASS_ON(int, __lxstat, (int version, const char* path, void* to), (version, path, to), kAskLink,
        kHere, path)
PASS_ON(int, __lxstat64, (int version, const char* path, void* to), (version, path, to), kAskLink,
        kHere, path)
PASS_ON(int, __fxstatat, (int version, int folder, const char* path, void* to, int flags),
        (version, folder, path, to, flags), AskOf(flags), folder, path)
PASS_ON(int, __fxstatat64, (int version, int folder, const char* path, void* to, int flags),
        (version, folder, path, to, flags), AskOf(flags), folder, path)

PASS_ON(int, access, (const char* path, int mode), (path, mode), AccessOf(mode), kHere, path)
PASS_ON(int, euidaccess, (const char* path, int mode), (path, mode), AccessOf(mode), kHere, path)
PASS_ON(int, eaccess, (const char* path, int mode), (path, mode), AccessOf(mode), kHere, path)
PASS_ON(int, faccessat, (int folder, const char* path, int mode, int flags),
        (folder, path, mode, flags), AccessOf(mode), folder, path)
PASS_ON(long, readlink, (const char* path, char* to, unsigned long size), (path, to, size),
        kAskLink, kHere, path)
PASS_ON(long, readlinkat, (int folder, const char* path, char* to, unsigned long size),
        (folder, path, to, size), kAskLink, folder, path)
PASS_ON(char*, realpath, (const char* path, char* to), (path, to), kResolve, kHere, path)
PASS_ON(char*, __realpath_chk, (const char* path, char* to, unsigned long size), (path, to, size),
        kResolve, kHere, path)
PASS_ON(void*, opendir, (const char* path), (path), kList, kHere, path)

PASS_ON(int, unlink, (const char* path), (path), kAskLink, kHere, path)
PASS_ON(int, unlinkat, (int folder, const char* path, int flags), (folder, path, flags), kAskLink,
        folder, path)
PASS_ON(int, rmdir, (const char* path), (path), kAskLink, kHere, path)
PASS_ON(int, remove, (const char* path), (path), kAskLink, kHere, path)
PASS_ON(int, rename, (const char* path, const char* to), (path, to), kAskLink, kHere, path)
PASS_ON(int, renameat, (int folder, const char* path, int to_folder, const char* to),
        (folder, path, to_folder, to), kAskLink, folder, path)
PASS_ON(int, chdir, (const char* path), (path), kAsk, kHere, path)
PASS_ON(int, statfs, (const char* path, void* to), (path, to), kAsk, kHere, path)
PASS_ON(int, statfs64, (const char* path, void* to), (path, to), kAsk, kHere, path)
PASS_ON(int, statvfs, (const char* path, void* to), (path, to), kAsk, kHere, path)
PASS_ON(int, statvfs64, (const char* path, void* to), (path, to), kAsk, kHere, path)
PASS_ON(long, getxattr, (const char* path, const char* name, void* to, unsigned long size),
        (path, name, to, size), kAsk, kHere, path)
PASS_ON(long, lgetxattr, (const char* path, const char* name, void* to, unsigned long size),
        (path, name, to, size), kAskLink, kHere, path)
PASS_ON(long, listxattr, (const char* path, char* to, unsigned long size), (path, to, size), kAsk,
        kHere, path)
PASS_ON(long, llistxattr, (const char* path, char* to, unsigned long size), (path, to, size),
        kAskLink, kHere, path)
