#include "launcher/engine/shield/thread_activity.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "launcher/engine/shield/other_end.h"

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

// Copies from memory that another thread may be taking away.
bool CopyFrom(unsigned long address, void* to, size_t size) {
  iovec local = {to, size};
  iovec remote = {reinterpret_cast<void*>(address), size};
  return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == static_cast<ssize_t>(size);
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

// A system call as /proc/<pid>/syscall tells it.
struct Call {
  long number = -1;  // In none: runs, or sleeps in a page fault.
  unsigned long args[6] = {};
};

constexpr unsigned long kMaxPolled = 64;

Activity Polls(unsigned long fds, unsigned long count) {
  pollfd polled[kMaxPolled];
  if (count == 0) return Activity::kNapping;
  if (count > kMaxPolled || !CopyFrom(fds, polled, count * sizeof(pollfd)))
    return Activity::kWaiting;
  for (unsigned long i = 0; i < count; ++i)
    if (polled[i].fd >= 0 && !OtherEndIsElsewhere(polled[i].fd)) return Activity::kWaiting;
  return Activity::kElsewhere;
}

// select(count, sets[0], sets[1], sets[2], ...)
Activity Selects(unsigned long count, const unsigned long* sets) {
  if (count == 0) return Activity::kNapping;
  if (count > FD_SETSIZE) return Activity::kWaiting;
  for (int i = 0; i < 3; ++i) {
    fd_set set;
    if (sets[i] == 0) continue;
    if (!CopyFrom(sets[i], &set, (count + 63) / 64 * 8)) return Activity::kWaiting;
    for (unsigned long fd = 0; fd < count; ++fd)
      if (FD_ISSET(fd, &set) && !OtherEndIsElsewhere(static_cast<int>(fd)))
        return Activity::kWaiting;
  }
  return Activity::kElsewhere;
}

Activity Connects(unsigned long address, unsigned long size) {
  sockaddr_storage peer = {};
  const bool known = size <= sizeof peer && CopyFrom(address, &peer, size);
  return known && PeerIsElsewhere(peer) ? Activity::kElsewhere : Activity::kWaiting;
}

// What a thread that is asleep in `call` waits for.
Activity WaitsFor(const Call& call) {
  switch (call.number) {
    case SYS_nanosleep:
    case SYS_clock_nanosleep:
      return Activity::kNapping;
    case SYS_wait4:
    case SYS_waitid:
      return Activity::kElsewhere;
    case SYS_poll:
    case SYS_ppoll:
      return Polls(call.args[0], call.args[1]);
    case SYS_select:
    case SYS_pselect6:
      return Selects(call.args[0], call.args + 1);
    case SYS_connect:
      return Connects(call.args[1], call.args[2]);
    case SYS_read:
    case SYS_readv:
    case SYS_write:
    case SYS_writev:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_sendto:
    case SYS_sendmsg:
      return OtherEndIsElsewhere(static_cast<int>(call.args[0])) ? Activity::kElsewhere
                                                                 : Activity::kWaiting;
    default:
      return Activity::kWaiting;
  }
}

// False if it cannot be read: no such file, or not allowed to.
bool ReadCall(pid_t tid, Call* call) {
  char text[256];
  if (!ReadTaskFile(tid, "syscall", text, sizeof text)) return false;
  char* rest;
  const long number = std::strtol(text, &rest, 10);
  if (rest == text) return true;
  call->number = number;
  for (unsigned long& arg : call->args) arg = std::strtoul(rest, &rest, 16);
  return true;
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

bool IsGone(const ThreadId& thread) {
  return syscall(SYS_tgkill, getpid(), thread.tid, 0) != 0 && errno == ESRCH;
}

namespace {

// Look(), and the call in which the thread is if that is kWaiting and known.
Activity LookAt(const ThreadId& thread, Call* call) {
  if (IsGone(thread)) return Activity::kGone;
  const bool known = ReadCall(thread.tid, call);
  if (known && (call->number < 0 || IsFileCall(call->number, call->args[0])))
    return Activity::kWorking;
  char state = State(thread.tid);
  if (state == 'Z' || state == 'X') return Activity::kGone;
  return state == 'R' || state == 'D' ? Activity::kWorking : Activity::kWaiting;
}

}  // namespace

Activity Look(const ThreadId& thread) {
  Call call;
  return LookAt(thread, &call);
}

Activity LookForEnd(const ThreadId& thread) {
  Call call;
  Activity activity = LookAt(thread, &call);
  return activity == Activity::kWaiting ? WaitsFor(call) : activity;
}

int64_t CpuNanoseconds(const ThreadId& thread) {
  timespec used;
  return clock_gettime(thread.cpu_clock, &used) == 0 ? Nanoseconds(used) : 0;
}

}  // namespace pylaunch::engine
