#include "launcher/engine/seal_process.h"

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

// The sealer finds its job on this descriptor.
constexpr int kJobFd = 3;

int WriteJob(const cache::SealJob& job) {
  int fd = memfd_create("pylaunch-seal", MFD_CLOEXEC);
  if (fd < 0) return -1;
  std::string bytes = job.Serialize();
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

// Spawns with an empty signal mask and default SIGCHLD, SIGPIPE handling, whatever the program has
// set.
int Spawn(const std::string& sealer, int job_fd, SealWait wait, pid_t* pid) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, job_fd, kJobFd);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none, defaults;
  sigemptyset(&none);
  sigfillset(&defaults);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  // A session of its own before this returns: no terminal's Ctrl-C or hang-up is meant for it.
  short session = wait == SealWait::kUntilDone ? 0 : POSIX_SPAWN_SETSID;
  posix_spawnattr_setflags(
      &attributes, static_cast<short>(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | session));
  std::string fd = std::to_string(kJobFd);
  char name[] = "pylaunch-sealer";
  char detach[] = "--detach";
  char* const forking[] = {name, detach, fd.data(), nullptr};
  char* const staying[] = {name, fd.data(), nullptr};
  char* const* argv = wait == SealWait::kNot ? forking : staying;
  char* const environment[] = {nullptr};
  int error = posix_spawn(pid, sealer.c_str(), &actions, &attributes, argv, environment);
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

std::string RunSealer(const std::string& sealer, const cache::SealJob& job, SealWait wait) {
  int fd = WriteJob(job);
  if (fd < 0) return std::string("no memory for the archive's job: ") + std::strerror(errno);
  // dup2 onto itself would leave close-on-exec set (posix_spawn(3) clears it only since glibc 2.29,
  // and only then).
  sigset_t child_signal, before, pending;
  sigemptyset(&child_signal);
  sigaddset(&child_signal, SIGCHLD);
  pthread_sigmask(SIG_BLOCK, &child_signal, &before);
  sigpending(&pending);
  bool was_pending = sigismember(&pending, SIGCHLD) == 1;
  pid_t pid = 0;
  int error = Spawn(sealer, fd, wait, &pid);
  close(fd);
  bool reap = error == 0 && wait != SealWait::kEnding;
  int status = reap ? Reap(pid, child_signal) : 0;
  if (was_pending) kill(getpid(), SIGCHLD);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error != 0) return "cannot run " + sealer + ": " + std::strerror(error);
  bool failed = wait == SealWait::kUntilDone && WIFEXITED(status) && WEXITSTATUS(status) != 0;
  return failed ? "the archive could not be written to " + job.archive_path : "";
}

}  // namespace pylaunch::engine
