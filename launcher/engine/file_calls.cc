// No header that declares these functions is included, because it would declare them otherwise
// (exceptions, attributes, macros for large files); their types are those of the psABI's registers.

#include "launcher/engine/file_calls.h"

#include <dlfcn.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>

extern "C" const char __ehdr_start[];  // The linker's: where the engine begins and ends.
extern "C" const char _end[];

namespace pylaunch::engine {
namespace {

constexpr int kHere = -100;            // AT_FDCWD
constexpr int kWriteOnly = 01;         // O_WRONLY
constexpr int kCreate = 0100;          // O_CREAT
constexpr int kTemporary = 020200000;  // O_TMPFILE

std::atomic<FileListener> g_listener = nullptr;

bool IsOurs(const void* address) { return address >= __ehdr_start && address < _end; }

void Tell(const void* caller, FileCall call, int folder, const char* path, int flags) {
  FileListener listener = g_listener.load(std::memory_order_relaxed);
  if (listener == nullptr || path == nullptr || path[0] == '\0' || IsOurs(caller)) return;
  const int error = errno;
  listener(call, folder, path, flags);
  errno = error;
}

// fopen's "w" reads nothing.
int FlagsOf(const char* mode) { return mode != nullptr && mode[0] == 'w' ? kWriteOnly : 0; }

}  // namespace

void ListenToFileCalls(FileListener listener) { g_listener = listener; }

}  // namespace pylaunch::engine

#define PASS_ON(result, name, parameters, arguments, call, folder, path, flags)                   \
  extern "C" __attribute__((visibility("default"))) result name parameters {                      \
    using Function = result(*) parameters;                                                        \
    static std::atomic<Function> libc = nullptr;                                                  \
    if (libc.load(std::memory_order_relaxed) == nullptr) {                                        \
      libc = reinterpret_cast<Function>(dlsym(RTLD_NEXT, #name));                                 \
    }                                                                                             \
    pylaunch::engine::Tell(__builtin_return_address(0), pylaunch::engine::FileCall::call, folder, \
                           path, flags);                                                          \
    return libc.load(std::memory_order_relaxed) arguments;                                        \
  }

// The mode is there only with some flags (open(2)).
#define PASS_ON_OPEN(name, first_parameter, first_argument, folder)                            \
  extern "C" __attribute__((visibility("default"))) int name(first_parameter const char* path, \
                                                             int flags, ...) {                 \
    using Function = int (*)(first_parameter const char*, int, ...);                           \
    static std::atomic<Function> libc = nullptr;                                               \
    if (libc.load(std::memory_order_relaxed) == nullptr) {                                     \
      libc = reinterpret_cast<Function>(dlsym(RTLD_NEXT, #name));                              \
    }                                                                                          \
    namespace engine = pylaunch::engine;                                                       \
    engine::Tell(__builtin_return_address(0), engine::FileCall::kOpen, folder, path, flags);   \
    unsigned mode = 0;                                                                         \
    if ((flags & (engine::kCreate | engine::kTemporary)) != 0) {                               \
      va_list rest;                                                                            \
      va_start(rest, flags);                                                                   \
      mode = va_arg(rest, unsigned);                                                           \
      va_end(rest);                                                                            \
    }                                                                                          \
    return libc.load(std::memory_order_relaxed)(first_argument path, flags, mode);             \
  }

#define COMMA ,
using pylaunch::engine::FlagsOf;
using pylaunch::engine::kHere;

PASS_ON_OPEN(open, , , kHere)
PASS_ON_OPEN(open64, , , kHere)
PASS_ON_OPEN(openat, int folder COMMA, folder COMMA, folder)
PASS_ON_OPEN(openat64, int folder COMMA, folder COMMA, folder)
PASS_ON(int, __open_2, (const char* path, int flags), (path, flags), kOpen, kHere, path, flags)
PASS_ON(int, __open64_2, (const char* path, int flags), (path, flags), kOpen, kHere, path, flags)
PASS_ON(int, __openat_2, (int folder, const char* path, int flags), (folder, path, flags), kOpen,
        folder, path, flags)
PASS_ON(int, __openat64_2, (int folder, const char* path, int flags), (folder, path, flags), kOpen,
        folder, path, flags)
PASS_ON(FILE*, fopen, (const char* path, const char* mode), (path, mode), kOpen, kHere, path,
        FlagsOf(mode))
PASS_ON(FILE*, fopen64, (const char* path, const char* mode), (path, mode), kOpen, kHere, path,
        FlagsOf(mode))

PASS_ON(int, stat, (const char* path, void* to), (path, to), kAsk, kHere, path, 0)
PASS_ON(int, stat64, (const char* path, void* to), (path, to), kAsk, kHere, path, 0)
PASS_ON(int, lstat, (const char* path, void* to), (path, to), kAsk, kHere, path, 0)
PASS_ON(int, lstat64, (const char* path, void* to), (path, to), kAsk, kHere, path, 0)
PASS_ON(int, fstatat, (int folder, const char* path, void* to, int flags),
        (folder, path, to, flags), kAsk, folder, path, 0)
PASS_ON(int, fstatat64, (int folder, const char* path, void* to, int flags),
        (folder, path, to, flags), kAsk, folder, path, 0)
PASS_ON(int, statx, (int folder, const char* path, int flags, unsigned mask, void* to),
        (folder, path, flags, mask, to), kAsk, folder, path, 0)
// What stat(2) was compiled to before glibc 2.33.
PASS_ON(int, __xstat, (int version, const char* path, void* to), (version, path, to), kAsk, kHere,
        path, 0)
PASS_ON(int, __xstat64, (int version, const char* path, void* to), (version, path, to), kAsk, kHere,
        path, 0)
PASS_ON(int, __lxstat, (int version, const char* path, void* to), (version, path, to), kAsk, kHere,
        path, 0)
PASS_ON(int, __lxstat64, (int version, const char* path, void* to), (version, path, to), kAsk,
        kHere, path, 0)
PASS_ON(int, __fxstatat, (int version, int folder, const char* path, void* to, int flags),
        (version, folder, path, to, flags), kAsk, folder, path, 0)
PASS_ON(int, __fxstatat64, (int version, int folder, const char* path, void* to, int flags),
        (version, folder, path, to, flags), kAsk, folder, path, 0)

PASS_ON(int, access, (const char* path, int mode), (path, mode), kAsk, kHere, path, 0)
PASS_ON(int, euidaccess, (const char* path, int mode), (path, mode), kAsk, kHere, path, 0)
PASS_ON(int, eaccess, (const char* path, int mode), (path, mode), kAsk, kHere, path, 0)
PASS_ON(int, faccessat, (int folder, const char* path, int mode, int flags),
        (folder, path, mode, flags), kAsk, folder, path, 0)
PASS_ON(long, readlink, (const char* path, char* to, unsigned long size), (path, to, size), kAsk,
        kHere, path, 0)
PASS_ON(long, readlinkat, (int folder, const char* path, char* to, unsigned long size),
        (folder, path, to, size), kAsk, folder, path, 0)
PASS_ON(char*, realpath, (const char* path, char* to), (path, to), kAsk, kHere, path, 0)
PASS_ON(char*, __realpath_chk, (const char* path, char* to, unsigned long size), (path, to, size),
        kAsk, kHere, path, 0)
PASS_ON(void*, opendir, (const char* path), (path), kList, kHere, path, 0)
