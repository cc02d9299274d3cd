#include "launcher/engine/thread_activity.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace pylaunch::engine {
namespace {

int64_t Nanoseconds(const timespec& time) {
  return static_cast<int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

// First bytes of /proc/self/task/<tid>/<name>, as a string; false if they cannot be had.
bool ReadTaskFile(pid_t tid, const char* name, char* buffer, size_t size) {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/self/task/%d/%s", static_cast<int>(tid), name);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  ssize_t n = read(fd, buffer, size - 1);
  close(fd);
  buffer[n > 0 ? n : 0] = '\0';
  return n > 0;
}

bool IsFile(int fd) {
  struct stat st;
  return fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode));
}

// System calls that end by the kernel's own work on a file, however long a network file system
// takes over it (FUSE sleeps interruptibly there, so the state in `stat` does not tell).
bool IsFileCall(long number, unsigned long first_argument) {
  switch (number) {
#ifdef SYS_open
    case SYS_open:
    case SYS_stat:
    case SYS_lstat:
    case SYS_access:
    case SYS_readlink:
    case SYS_getdents:
    case SYS_mkdir:
    case SYS_rename:
#endif
    case SYS_openat:
    case SYS_fstat:
    case SYS_newfstatat:
    case SYS_statx:
    case SYS_faccessat:
    case SYS_readlinkat:
    case SYS_getdents64:
    case SYS_mkdirat:
    case SYS_renameat2:
    case SYS_mmap:
    case SYS_munmap:
    case SYS_mprotect:
    case SYS_madvise:
    case SYS_close:
    case SYS_fsync:
    case SYS_execve:
      return true;
    case SYS_read:
    case SYS_readv:
    case SYS_pread64:
    case SYS_write:
    case SYS_writev:
    case SYS_pwrite64:
      return IsFile(static_cast<int>(first_argument));
    default:
      return false;
  }
}

// The state letter of proc(5)'s stat: after the last ')' of the command name. '?': not known.
char State(pid_t tid) {
  char text[256];
  if (!ReadTaskFile(tid, "stat", text, sizeof text)) return '?';
  const char* end = std::strrchr(text, ')');
  return end != nullptr && end[1] == ' ' ? end[2] : '?';
}

}  // namespace

ThreadId ThreadId::OfThisThread() {
  ThreadId id;
  id.tid = static_cast<pid_t>(syscall(SYS_gettid));
  if (pthread_getcpuclockid(pthread_self(), &id.cpu_clock) != 0) id.cpu_clock = CLOCK_MONOTONIC;
  return id;
}

Activity Look(const ThreadId& thread) {
  if (syscall(SYS_tgkill, getpid(), thread.tid, 0) != 0 && errno == ESRCH) return Activity::kGone;
  char text[256];
  // "running", or the number of the system call and its arguments; -1 when it sleeps in none (a
  // page fault).
  if (ReadTaskFile(thread.tid, "syscall", text, sizeof text)) {
    char* rest;
    long number = std::strtol(text, &rest, 10);
    if (rest == text || number < 0 || IsFileCall(number, std::strtoul(rest, nullptr, 16)))
      return Activity::kWorking;
  }
  char state = State(thread.tid);
  if (state == 'Z' || state == 'X') return Activity::kGone;
  return state == 'R' || state == 'D' ? Activity::kWorking : Activity::kWaiting;
}

int64_t CpuNanoseconds(const ThreadId& thread) {
  timespec used;
  return clock_gettime(thread.cpu_clock, &used) == 0 ? Nanoseconds(used) : 0;
}

}  // namespace pylaunch::engine
