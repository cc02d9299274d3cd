#include "image/capture.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <memory_resource>
#include <string_view>

#include "cache/close_range.h"
#include "cache/stat_proof.h"
#include "image/clock_search.h"
#include "image/dump.h"
#include "image/own_stack.h"
#include "image/secret_search.h"
#include "image/secrets.h"

extern char** environ;

namespace pylaunch::image {
namespace {

// Threads that have fork handlers of their own and that their libraries do without in a forked
// child: jemalloc's (src/background_thread.c, background_thread_postfork_child).
constexpr std::string_view kForkAwareThreads[] = {"jemalloc_bg_thd"};

// A joined thread stays in /proc/self/task for a moment.
constexpr int kThreadPatienceMs = 200;

// Threads that nobody vouches for, as far as they fit: in a fork handler nobody may allocate, for a
// malloc's own handler may have come before.
struct OtherThreads {
  struct Entry {
    pid_t id;
    char name[16];  // TASK_COMM_LEN
  };
  bool unknown;  // /proc/self/task cannot be read.
  size_t count;
  Entry entries[32];
};

// The C library calls the fork handler and the restorer OnRestored with nothing of ours.
constinit struct {
  bool judging = false;       // The fork under way is a capture's.
  void (*first)() = nullptr;  // CaptureRequest::restored
  ucontext_t context = {};    // Where a restored process goes on.
  sigset_t first_mask = {};   // The starter's...
  sigset_t last_mask = {};    // ...and what preloading has made of it.
  sigset_t inherited_mask = {};
  const Restored* volatile restored = nullptr;
  OtherThreads threads = {};
} g;

bool IsForkAware(std::string_view name) {
  return std::find(std::begin(kForkAwareThreads), std::end(kForkAwareThreads), name) !=
         std::end(kForkAwareThreads);
}

void FindOtherThreads(OtherThreads* threads) {
  threads->count = 0;
  const pid_t self = static_cast<pid_t>(syscall(SYS_gettid));
  DIR* tasks = opendir("/proc/self/task");
  threads->unknown = tasks == nullptr;
  while (const dirent* task = tasks == nullptr ? nullptr : readdir(tasks)) {
    const int tid = std::atoi(task->d_name);
    if (tid == 0 || tid == self || threads->count == std::size(threads->entries)) continue;
    OtherThreads::Entry& entry = threads->entries[threads->count];
    entry = {tid, "?"};
    char path[64];
    std::snprintf(path, sizeof path, "/proc/self/task/%d/comm", tid);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd < 0 ? 0 : read(fd, entry.name, sizeof entry.name);
    if (fd >= 0) close(fd);
    if (n > 0) entry.name[n - 1] = '\0';
    if (!IsForkAware(entry.name)) ++threads->count;
  }
  if (tasks != nullptr) closedir(tasks);
}

void BeforeFork() {
  if (!g.judging) return;
  for (int waited = 0; waited <= kThreadPatienceMs; waited += 5) {
    FindOtherThreads(&g.threads);
    if (!g.threads.unknown && g.threads.count == 0) return;
    usleep(5000);
  }
}

uint64_t ThreadPointer() {
  uint64_t at;
  asm("mov %%fs:0, %0" : "=r"(at));  // The psABI: the thread pointer's first word is itself.
  return at;
}

// Where in glibc's struct pthread (nptl/descr.h, private) its thread id stands: offsets whose value
// is `tid` now. The right one still fits in a forked child, whose tid is another.
constexpr uint32_t kDescriptorSize = 2048;
using TidOffsets = std::vector<uint32_t>;

TidOffsets FindTid(const TidOffsets* among) {
  const auto tid = static_cast<int>(syscall(SYS_gettid));
  TidOffsets found;
  for (uint32_t offset = 0; offset < kDescriptorSize; offset += sizeof(int)) {
    int value;
    std::memcpy(&value, reinterpret_cast<void*>(ThreadPointer() + offset), sizeof value);
    if (value != tid) continue;
    if (among == nullptr || std::find(among->begin(), among->end(), offset) != among->end()) {
      found.push_back(offset);
    }
  }
  return found;
}

// The starter's, with what preloading has blocked and unblocked; not the capturing process's.
void TakeMask(sigset_t* mask) {
  sigprocmask(SIG_SETMASK, nullptr, &g.inherited_mask);
  *mask = g.inherited_mask;
  for (int number = 1; number < NSIG; ++number) {
    const int blocked = sigismember(&g.last_mask, number);
    if (blocked == sigismember(&g.first_mask, number)) continue;
    blocked == 1 ? sigaddset(mask, number) : sigdelset(mask, number);
  }
}

// On the restored process's side of the gap: the restorer's `entry`.
[[noreturn]] void OnRestored(const Restored* restored) {
  if (g.first != nullptr) g.first();
  g.restored = restored;
  TakeMask(&g.context.uc_sigmask);
  setcontext(&g.context);
  _exit(127);
}

// The kernel's first choice where memory runs out (proc(5)); anybody may make himself that.
void VolunteerToBeKilled() {
  const int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  (void)!write(fd, "1000", 4);
  close(fd);
}

// Nothing of the program's reaches this process, nor it the program.
void Withdraw(int kept) {
  VolunteerToBeKilled();
  setsid();
  const unsigned from = kept < 3 ? 3 : static_cast<unsigned>(kept) + 1;
  if (kept > 3) cache::CloseRange(3, from - 2);
  cache::CloseRange(from, ~0u);
  const int null = open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3; ++fd) {
    if (null != fd) dup2(null, fd);
  }
  if (null > 2) close(null);
  const rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, nullptr);
}

constexpr size_t kEnvironmentStep = 65536;

// What the environment is and, as the kernel keeps it, what it was at the start: a variable that
// was taken out of it may have been copied.
bool ReadEnvironments(std::pmr::string* at_start, std::pmr::vector<std::string_view>* entries) {
  const int fd = open("/proc/self/environ", O_RDONLY | O_CLOEXEC);
  char* buffer = at_start->get_allocator().allocate(kEnvironmentStep);
  ssize_t n = -1;
  while (fd >= 0 && (n = read(fd, buffer, kEnvironmentStep)) > 0) {
    at_start->append(buffer, static_cast<size_t>(n));
  }
  if (fd >= 0) close(fd);
  for (std::string_view rest = *at_start; !rest.empty();) {
    entries->push_back(rest.substr(0, rest.find('\0')));
    rest.remove_prefix(std::min(rest.size(), entries->back().size() + 1));
  }
  for (char** e = environ; e != nullptr && *e != nullptr; ++e) entries->push_back(*e);
  std::sort(entries->begin(), entries->end());
  entries->erase(std::unique(entries->begin(), entries->end()), entries->end());
  return n == 0;
}

// Not inlined: what it has on the stack must not be in the image.
[[gnu::noinline]] bool CollectSecrets(std::pmr::memory_resource* memory,
                                      const std::vector<std::string>& allowed,
                                      SecretSearch* secrets) {
  std::pmr::string at_start(memory);
  std::pmr::vector<std::string_view> entries(memory);
  if (!ReadEnvironments(&at_start, &entries)) return false;
  for (const std::string_view entry : entries) {
    const size_t equals = entry.find('=');
    const std::string_view name = entry.substr(0, equals);
    if (equals == entry.npos || !IsSecretName(name) ||
        std::find(allowed.begin(), allowed.end(), name) != allowed.end()) {
      continue;
    }
    for (const std::pmr::string& form : FormsOf(entry.substr(equals + 1), memory)) {
      secrets->Add(name, form);
    }
  }
  return true;
}

class Capturer {
 public:
  Capturer(const CaptureRequest& request, const TidOffsets& tids)
      : request_(request), tids_(tids) {}

  // In the capturing process; returns in restored ones.
  void Run() {
    std::string refusal = Prepare();
    // Shared, so that the kernel does not join it to a neighbour.
    void* scratch = mmap(nullptr, kScratchSize, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (scratch == MAP_FAILED) refusal = "no memory";
    if (refusal.empty()) {
      request_.begin();
      fd_ = open(request_.path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
      if (fd_ < 0) refusal = request_.path + ": " + std::strerror(errno);
    }
    std::pmr::monotonic_buffer_resource memory(scratch, refusal.empty() ? kScratchSize : 0,
                                               std::pmr::null_memory_resource());
    if (refusal.empty()) {
      auto* secrets = std::pmr::polymorphic_allocator<>(&memory).new_object<SecretSearch>(&memory);
      context_.secrets = secrets;
      context_.clocks = std::pmr::polymorphic_allocator<>(&memory).new_object<ClockSearch>(
          request_.times_ns, &memory);
      const bool read = CollectSecrets(&memory, request_.allowed_secrets, secrets);
      refusal = read ? request_.prepare() : "/proc/self/environ cannot be read";
    }
    if (!refusal.empty()) Finish(refusal, {}, 0);
    getcontext(&g.context);
    if (g.restored != nullptr) return;
    DumpAndFinish(scratch, &memory);
  }

 private:
  std::string Prepare() {
    const TidOffsets tids = FindTid(&tids_);
    if (tids.size() != 1) return "glibc's thread descriptor is not the one we know";
    context_.header.tid_offset = tids[0];
    return "";
  }

  [[noreturn, gnu::noinline]] void DumpAndFinish(void* scratch, std::pmr::memory_resource* memory) {
    FillContext(scratch);
    std::pmr::vector<std::pmr::string> files(memory);
    const std::pmr::string refusal = Dump(context_, fd_, memory, &files);
    const bool synced = fsync(fd_) == 0;
    close(fd_);
    // The pages are written; from here on this process may use its heap again.
    std::vector<std::string> paths(files.begin(), files.end());
    Finish(!refusal.empty() ? std::string(refusal)
           : synced         ? ""
                            : "cannot be written",
           paths, context_.clocks->fixed());
  }

  void FillContext(void* scratch) {
    Header& h = context_.header;
    std::memcpy(h.magic, kMagic, sizeof kMagic);
    h.format = kFormat;
    h.vdso = getauxval(AT_SYSINFO_EHDR);
    h.thread_pointer = ThreadPointer();
    robust_list_head* list = nullptr;
    size_t size = 0;
    syscall(SYS_get_robust_list, 0, &list, &size);
    h.robust_list = reinterpret_cast<uint64_t>(list);
    h.robust_list_size = size;
    prctl(PR_GET_NAME, h.name);
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    h.captured_ns = cache::NanosecondsOf(now);
    context_.stack_end = OwnStackEnd();
    const auto top = static_cast<uint64_t>(g.context.uc_mcontext.gregs[REG_RSP]);
    // Below are only frames of the dump; the psABI's red zone belongs to the frame.
    context_.stack_used = top - 128;
    h.stack = (top - 65536) & ~uint64_t{63};
    h.entry = reinterpret_cast<uint64_t>(&OnRestored);
    context_.scratch = reinterpret_cast<uint64_t>(scratch);
    context_.tight = request_.tight;
  }

  [[noreturn]] void Finish(const std::string& refusal, const std::vector<std::string>& files,
                           size_t times) {
    request_.finish(refusal, files, times);
    _exit(0);
  }

  const CaptureRequest& request_;
  const TidOffsets& tids_;
  DumpContext context_;
  int fd_ = -1;
};

// Waits for the child and takes back the SIGCHLD it caused, so that the program never hears of it.
class QuietChild {
 public:
  QuietChild() {
    sigemptyset(&child_);
    sigaddset(&child_, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &child_, &before_);
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGCHLD) == 1;
  }
  void Reap(pid_t pid, const std::function<void()>& waiting) {
    while (waiting && waitpid(pid, nullptr, WNOHANG) == 0) {
      waiting();
      usleep(20'000);
    }
    while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    const timespec now = {0, 0};
    sigtimedwait(&child_, nullptr, &now);
    if (was_pending_) kill(getpid(), SIGCHLD);
  }
  void Restore() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  const sigset_t& before() const { return before_; }

 private:
  sigset_t child_, before_;
  bool was_pending_ = false;
};

// An orphan would become this very process's child.
bool IsReaper() {
  int subreaper = 0;
  prctl(PR_GET_CHILD_SUBREAPER, &subreaper);
  return getpid() == 1 || subreaper != 0;
}

}  // namespace

const sigset_t& InheritedMask() { return g.inherited_mask; }

void WatchForks() {
  pthread_sigmask(SIG_SETMASK, nullptr, &g.first_mask);
  pthread_atfork(BeforeFork, nullptr, nullptr);
}

CaptureResult Capture(const CaptureRequest& request) {
  const bool wait = request.wait || IsReaper();
  const TidOffsets tids = FindTid(nullptr);
  QuietChild child;
  g.first = request.restored;
  g.last_mask = child.before();
  g.judging = true;
  const pid_t pid = fork();
  g.judging = false;
  if (pid == 0) {
    const bool none = request.threads_only || g.threads.unknown || g.threads.count > 0;
    if (none || (!wait && _Fork() != 0)) _exit(0);
    Withdraw(request.kept);
    Capturer(request, tids).Run();
    return {g.restored, "", {}};
  }
  const int error = errno;
  if (pid > 0) child.Reap(pid, request.waiting);
  child.Restore();
  CaptureResult result;
  if (pid < 0) result.refusal = std::string("fork: ") + std::strerror(error);
  if (g.threads.unknown) result.refusal = "/proc/self/task cannot be read";
  for (size_t i = 0; i < g.threads.count; ++i) {
    result.threads.push_back({g.threads.entries[i].id, g.threads.entries[i].name});
  }
  return result;
}

}  // namespace pylaunch::image
