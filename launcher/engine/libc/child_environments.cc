#include "launcher/engine/libc/child_environments.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "launcher/engine/libc/libc_calls.h"
#include "launcher/engine/libc/output_calls.h"

extern char** environ;

namespace pylaunch::engine {
namespace {

// What children have told of themselves, in memory that they share with us. A forked child may call
// nothing that takes a lock, one of vfork(2) runs in our own memory.
enum Told : int { kOwnEnvironment = 1, kMayHaveRead = 2 };
struct Child {
  std::atomic<pid_t> pid;  // 0: free; -1: has been waited for.
  std::atomic<int> told;
};
constexpr size_t kMostChildren = 4096;
struct Table {
  Child children[kMostChildren];
};

using Exec = int (*)(const char*, char* const*, char* const*);
using ExecDescriptor = int (*)(int, char* const*, char* const*);

// The functions at the end are called with nothing of ours, in children of vfork(2), too.
constinit struct {
  std::atomic<Table*> table = nullptr;
  pid_t process = 0;
  long faults_before = 0;
  std::atomic<long> faults_proved = 0;
  // What other libraries put before the C library is asked as it would be without ours. Found in
  // advance: a forked child may be one of vfork(2), and a signal handler may wait.
  LibcFunction<Exec> libc_execve{"execve"};
  LibcFunction<ExecDescriptor> libc_fexecve{"fexecve"};
  LibcFunction<pid_t (*)(pid_t, int*, int, rusage*)> libc_wait4{"wait4"};
  LibcFunction<int (*)(idtype_t, id_t, siginfo_t*, int)> libc_waitid{"waitid"};
} g;

// Not 0 once a child was waited for: every process faults pages in.
long FaultsOfChildren() {
  rusage usage;
  return getrusage(RUSAGE_CHILDREN, &usage) == 0 ? usage.ru_minflt : -1;
}

// Where there is no room, nothing is proved.
void Tell(Table* table, pid_t pid, Told what) {
  for (Child& child : table->children) {
    pid_t at = 0;
    if (child.pid.compare_exchange_strong(at, pid)) at = pid;
    if (at != pid) continue;
    child.told |= what;
    return;
  }
}

int TakeTold(Table* table, pid_t pid) {
  for (Child& child : table->children) {
    pid_t at = pid;
    if (child.pid.load() == 0) break;
    if (child.pid.compare_exchange_strong(at, -1)) return child.told;
  }
  return 0;
}

// `environ` itself, or a copy of all that is in it.
bool Inherits(char* const* envp) {
  if (envp == environ) return true;
  if (envp == nullptr || environ == nullptr || *environ == nullptr) return false;
  for (char** ours = environ; ours != nullptr && *ours != nullptr; ++ours) {
    char* const* theirs = envp;
    while (*theirs != nullptr && std::strcmp(*theirs, *ours) != 0) ++theirs;
    if (*theirs == nullptr) return false;
  }
  return true;
}

// No function of ours, which may have to look for the C library's.
bool HasChildren() {
  siginfo_t info;
  constexpr int kAny = WEXITED | WSTOPPED | WNOHANG | WNOWAIT;
  return FaultsOfChildren() != 0 || syscall(SYS_waitid, P_ALL, 0, &info, kAny, nullptr) == 0;
}

void BeforeExec(char* const* envp) {
  Table* table = g.table;
  if (table == nullptr || getpid() == g.process) return;
  TellExecuting(/*here=*/true);
  Tell(table, getpid(), Inherits(envp) || HasChildren() ? kMayHaveRead : kOwnEnvironment);
}

void AfterSpawn(pid_t child, char* const* envp) {
  Table* table = g.table;
  if (table == nullptr || getpid() != g.process) return;
  TellExecuting(/*here=*/false);
  Tell(table, child, Inherits(envp) ? kMayHaveRead : kOwnEnvironment);
}

// The child has executed nothing, and the C library has waited for it. Where no other thread can
// have waited for another one meanwhile, what was added is that child's.
void AfterFailedSpawn(long faults_before) {
  if (g.table == nullptr || getpid() != g.process) return;
  struct stat st;
  const bool alone = stat("/proc/self/task", &st) == 0 && st.st_nlink == 3;  // ".", ".." and it.
  if (alone) g.faults_proved += FaultsOfChildren() - faults_before;
}

void AfterWait(pid_t pid, long faults) {
  Table* table = g.table;
  if (table != nullptr && TakeTold(table, pid) == kOwnEnvironment) g.faults_proved += faults;
}

using Spawn = int (*)(pid_t*, const char*, const posix_spawn_file_actions_t*,
                      const posix_spawnattr_t*, char* const*, char* const*);

int SpawnBy(Spawn spawn, pid_t* pid, const char* path, const posix_spawn_file_actions_t* actions,
            const posix_spawnattr_t* attributes, char* const* argv, char* const* envp) {
  pid_t child = 0;
  const long faults = FaultsOfChildren();
  const int error = spawn(&child, path, actions, attributes, argv, envp);
  if (error != 0) {
    AfterFailedSpawn(faults);
    return error;
  }
  if (pid != nullptr) *pid = child;
  AfterSpawn(child, envp);
  return 0;
}

__attribute__((constructor)) void FindCalls() {
  g.libc_execve.Find();
  g.libc_fexecve.Find();
  g.libc_wait4.Find();
  g.libc_waitid.Find();
}

pid_t Wait(pid_t which, int* status, int options, rusage* usage) {
  int ended = 0;
  rusage used;
  const int64_t before = TellWaiting();
  const pid_t pid = g.libc_wait4.Get()(which, &ended, options, &used);
  if (pid <= 0) return pid;
  if (WIFEXITED(ended) || WIFSIGNALED(ended)) {
    AfterWait(pid, used.ru_minflt);
    TellReaped(before);
  }
  if (status != nullptr) *status = ended;
  if (usage != nullptr) *usage = used;
  return pid;
}

// The C library's does not tell what the child used.
int WaitId(idtype_t type, id_t id, siginfo_t* info, int options) {
  siginfo_t own = {};
  if (info == nullptr) info = &own;
  rusage used;
  info->si_pid = 0;
  const int64_t before = TellWaiting();
  const long result = syscall(SYS_waitid, type, id, info, options, &used);
  const bool ended =
      info->si_code == CLD_EXITED || info->si_code == CLD_KILLED || info->si_code == CLD_DUMPED;
  if (result == 0 && info->si_pid != 0 && ended) {
    AfterWait(info->si_pid, used.ru_minflt);
    TellReaped(before);
  }
  return static_cast<int>(result);
}

}  // namespace

void WatchChildren() {
  g.process = getpid();
  g.faults_before = FaultsOfChildren();
  void* memory =
      mmap(nullptr, sizeof(Table), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory != MAP_FAILED) g.table = static_cast<Table*>(memory);
}

ChildrenSeen StopWatchingChildren() {
  const long faults = FaultsOfChildren() - g.faults_before;
  // No image can have shared memory; a thread that is about to tell finds some all the same.
  if (Table* table = g.table.exchange(nullptr)) {
    mmap(table, sizeof(Table), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
         0);
  }
  return {faults != 0, faults != g.faults_proved};
}

bool NoteReadInChild() {
  Table* table = g.table;
  if (table == nullptr || getpid() == g.process) return false;
  Tell(table, getpid(), kMayHaveRead);
  return true;
}

}  // namespace pylaunch::engine

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED int execve(const char* path, char* const argv[], char* const envp[]) noexcept {
  pylaunch::engine::BeforeExec(envp);
  if (const auto libc = pylaunch::engine::g.libc_execve.Known()) return libc(path, argv, envp);
  return static_cast<int>(syscall(SYS_execve, path, argv, envp));
}

EXPORTED int fexecve(int fd, char* const argv[], char* const envp[]) noexcept {
  pylaunch::engine::BeforeExec(envp);
  if (const auto libc = pylaunch::engine::g.libc_fexecve.Known()) return libc(fd, argv, envp);
  return static_cast<int>(syscall(SYS_execveat, fd, "", argv, envp, AT_EMPTY_PATH));
}

EXPORTED int posix_spawn(pid_t* pid, const char* path, const posix_spawn_file_actions_t* actions,
                         const posix_spawnattr_t* attributes, char* const argv[],
                         char* const envp[]) {
  using Function = pylaunch::engine::Spawn;
  PYLAUNCH_LIBC(posix_spawn)
  return pylaunch::engine::SpawnBy(libc.Get(), pid, path, actions, attributes, argv, envp);
}

EXPORTED int posix_spawnp(pid_t* pid, const char* file, const posix_spawn_file_actions_t* actions,
                          const posix_spawnattr_t* attributes, char* const argv[],
                          char* const envp[]) {
  // The C library looks for it where nobody sees it.
  if (std::strchr(file, '/') == nullptr) (void)getenv("PATH");
  using Function = pylaunch::engine::Spawn;
  PYLAUNCH_LIBC(posix_spawnp)
  return pylaunch::engine::SpawnBy(libc.Get(), pid, file, actions, attributes, argv, envp);
}

EXPORTED pid_t wait(int* status) { return pylaunch::engine::Wait(-1, status, 0, nullptr); }

EXPORTED pid_t waitpid(pid_t pid, int* status, int options) {
  return pylaunch::engine::Wait(pid, status, options, nullptr);
}

EXPORTED pid_t wait3(int* status, int options, rusage* usage) noexcept {
  return pylaunch::engine::Wait(-1, status, options, usage);
}

EXPORTED pid_t wait4(pid_t pid, int* status, int options, rusage* usage) noexcept {
  return pylaunch::engine::Wait(pid, status, options, usage);
}

EXPORTED int waitid(idtype_t type, id_t id, siginfo_t* info, int options) {
  const bool reaps = (options & WEXITED) != 0 && (options & WNOWAIT) == 0;
  if (reaps && pylaunch::engine::g.table != nullptr) {
    return pylaunch::engine::WaitId(type, id, info, options);
  }
  return pylaunch::engine::g.libc_waitid.Get()(type, id, info, options);
}
