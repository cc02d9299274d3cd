#include "launcher/engine/base/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace pylaunch::engine {
namespace {

int MemoryFile(std::string_view bytes) {
  int fd = memfd_create("pylaunch-job", MFD_CLOEXEC);
  if (fd < 0) return -1;
  size_t done = 0;
  while (done < bytes.size()) {
    ssize_t n = write(fd, bytes.data() + done, bytes.size() - done);
    if (n <= 0) {
      close(fd);
      return -1;
    }
    done += static_cast<size_t>(n);
  }
  return fd;
}

int Spawn(const ChildProcess& child, int job_fd, pid_t* pid) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  // dup2 onto itself would leave close-on-exec set (posix_spawn(3) clears it only since glibc 2.29,
  // and only then).
  posix_spawn_file_actions_adddup2(&actions, job_fd, kJobFd);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none, defaults;
  sigemptyset(&none);
  sigfillset(&defaults);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  short session = child.session ? POSIX_SPAWN_SETSID : 0;
  posix_spawnattr_setflags(
      &attributes, static_cast<short>(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | session));
  std::vector<char*> argv;
  for (const std::string& a : child.arguments) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  int error = posix_spawn(pid, child.program.c_str(), &actions, &attributes, argv.data(),
                          child.environment);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  return error;
}

// Reaps `pid` and takes back the SIGCHLD it caused. REQUIRES: SIGCHLD is blocked and was not
// pending before.
int Reap(pid_t pid, const sigset_t& child_signal) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  timespec now = {0, 0};
  sigtimedwait(&child_signal, nullptr, &now);
  return status;
}

}  // namespace

std::string RunChild(const ChildProcess& child, std::string_view job, int* status) {
  *status = 0;
  int fd = MemoryFile(job);
  if (fd < 0) return std::string("no memory for a job: ") + std::strerror(errno);
  sigset_t child_signal, before, pending;
  sigemptyset(&child_signal);
  sigaddset(&child_signal, SIGCHLD);
  pthread_sigmask(SIG_BLOCK, &child_signal, &before);
  sigpending(&pending);
  bool was_pending = sigismember(&pending, SIGCHLD) == 1;
  pid_t pid = 0;
  int error = Spawn(child, fd, &pid);
  close(fd);
  if (error == 0 && child.wait) *status = Reap(pid, child_signal);
  if (was_pending) kill(getpid(), SIGCHLD);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error != 0) return "cannot run " + child.program + ": " + std::strerror(error);
  return "";
}

}  // namespace pylaunch::engine
