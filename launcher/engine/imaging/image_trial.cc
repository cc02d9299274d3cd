#include "launcher/engine/imaging/image_trial.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <optional>

#include "cache/descriptor.h"
#include "image/format.h"
#include "image/image_files.h"
#include "image/page_list.h"
#include "launcher/contract/handoff.h"
#include "launcher/engine/base/clock.h"
#include "launcher/engine/exit/exit_handlers.h"
#include "launcher/engine/imaging/confinement.h"

namespace pylaunch::engine {
namespace {

constexpr int64_t kPatienceNs = 20'000'000'000;
constexpr int64_t kEndPatienceNs = 2'000'000'000;
constexpr int kStepMs = 20;
constexpr size_t kMaxSaid = 1 << 16;
constexpr size_t kMaxWords = 1000;
// Where in the memory file of pages the second list stands, that of a whole process.
constexpr off_t kSecondList = image::kMostListBytes;

// In the child. The environment is only what the restorer must be told: the builder's is gone.
[[noreturn]] void Become(const std::string& restorer, int handoff, int image, int words) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);  // Else two MiB are mapped where one page is needed.
  dup2(words, 2);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  std::string variable = std::string(kHandoffVariable) + "=";
  PutImageHandoff(handoff, image, getpid(), /*inodes=*/"", /*python=*/"",
                  [&variable](char c) { variable += c; });
  char python[] = "python", option[] = "-c", command[] = "pass";
  char* const argv[] = {python, option, command, nullptr};
  char* const environment[] = {variable.data(), nullptr};
  execve(restorer.c_str(), argv, environment);
  _exit(image::kCannotRun);
}

// What lies in the pipe; does not wait for more.
void Drain(int fd, std::string* said) {
  char buffer[4096];
  ssize_t n;
  while ((n = read(fd, buffer, sizeof buffer)) > 0) {
    if (said->size() < kMaxSaid) said->append(buffer, static_cast<size_t>(n));
  }
}

bool HasWritten(int fd) {
  struct stat st;
  return fstat(fd, &st) == 0 && st.st_size > 0;
}

// As waitpid gives it; nothing: the process goes on and on. It is the process that counts: what
// it has started may hold the pipe for longer.
std::optional<int> Await(pid_t pid, int words, int pages, std::string* said) {
  int64_t end_ns = MonotonicNs() + kPatienceNs;
  int status = 0;
  for (bool passed = false; waitpid(pid, &status, WNOHANG) == 0;) {
    if (!passed && HasWritten(pages)) {
      passed = true;
      end_ns = MonotonicNs() + kEndPatienceNs;
    }
    if (MonotonicNs() >= end_ns) return std::nullopt;
    pollfd wait = {words, POLLIN, 0};
    poll(&wait, 1, kStepMs);
    if ((wait.revents & POLLHUP) != 0) usleep(1000);  // It ends, or has closed it.
    Drain(words, said);
  }
  Drain(words, said);
  return status;
}

// The last line: libraries may have said something before.
std::string LastLine(std::string words) {
  while (words.ends_with('\n')) words.pop_back();
  return words.substr(words.rfind('\n') + 1).substr(0, kMaxWords);
}

// Whether a process does that to itself.
bool IsOwnFault(int signal) {
  for (const int own : {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGSYS, SIGTRAP}) {
    if (signal == own) return true;
  }
  return false;
}

// Why the process did not get there; empty if it did, or if it is not to blame.
std::string Blame(int status, const std::string& said) {
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    return IsOwnFault(signal) ? std::string("it dies of ") + strsignal(signal) : "";
  }
  const int code = WEXITSTATUS(status);
  if (code == kTrialPassed) return "";
  const std::string line = LastLine(said);
  if (!line.empty()) return line;
  if (code == image::kCannotRun) return "its memory cannot be mapped";
  return "it ends with exit code " + std::to_string(code);
}

// A whole list in the memory file `fd`, or nothing.
std::string ListAt(int fd, off_t at) {
  std::string bytes(image::kMostListBytes, '\0');
  const ssize_t n = pread(fd, bytes.data(), bytes.size(), at);
  uint32_t size = 0;
  if (n < static_cast<ssize_t>(sizeof size)) return "";
  std::memcpy(&size, bytes.data(), sizeof size);
  bytes = bytes.substr(sizeof size, size);
  return image::PageList::Parse(bytes) ? bytes : "";
}

// What is called at the end is given nothing. Never freed.
constinit struct {
  const Handoff* handoff = nullptr;
  image::PageList* needed = nullptr;
} g;

void AddPages() { (void)g.needed->AddThisProcess(g.handoff->trial_image); }

// For ListAt(). An empty list tells at least that the process has come so far.
void TellPages(off_t at) {
  AddPages();
  const bool any = !g.needed->files.empty() && g.needed->bytes() <= image::kMostListedBytes;
  const std::string bytes = any ? g.needed->Serialize() : "";
  const auto size = static_cast<uint32_t>(bytes.size());
  const int fd = g.handoff->trial_pages;
  (void)!pwrite(fd, bytes.data(), size, at + static_cast<off_t>(sizeof size));
  (void)!pwrite(fd, &size, sizeof size, at);
}

}  // namespace

void PassTrial(const Handoff& handoff) {
  g = {new Handoff(handoff), new image::PageList};
  TellPages(0);
  if (!handoff.trial_ends || !ConfineToMemory(handoff.trial_pages)) _exit(kTrialPassed);
  CallAtTheEnd([] { TellPages(kSecondList); });
}

void GoOnWithTrial() {
  if (g.handoff != nullptr) AddPages();
}

TrialResult TryImage(const Handoff& order, const std::string& path, bool ends) {
  const std::string restorer = order.LibraryFile(image::kRestorer);
  const cache::Descriptor image(open(path.c_str(), O_RDONLY));
  const cache::Descriptor pages(memfd_create("pylaunch", 0));
  cache::Pipe told(0), words(O_CLOEXEC | O_NONBLOCK);
  Handoff handoff;
  handoff.image_trial = true;
  handoff.trial_image = path;
  handoff.trial_pages = pages.get();
  handoff.trial_ends = ends;
  handoff.fast_exit = true;
  handoff.python = order.python;
  handoff.library = order.library;
  handoff.cache_folder = order.cache_folder;
  handoff.cache_readonly = true;
  const std::string bytes = handoff.Serialize();  // Little enough to lie in a pipe.
  const bool ready =
      image.ok() && told.writing().ok() && words.writing().ok() &&
      write(told.writing().get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
  told.writing().Close();
  signal(SIGCHLD, SIG_DFL);  // Where it is ignored, nobody would be told how the child ended.
  const pid_t pid = ready ? _Fork() : -1;
  if (pid < 0) return {};
  if (pid == 0) {
    Become(restorer, told.reading().get(), image.get(), words.writing().get());
  }
  words.writing().Close();
  std::string said;
  const std::optional<int> status = Await(pid, words.reading().get(), pages.get(), &said);
  if (!status) {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }
  if (HasWritten(pages.get())) {
    const std::string whole = ListAt(pages.get(), kSecondList);
    return {"", whole.empty() ? ListAt(pages.get(), 0) : whole};
  }
  const std::string why = status ? Blame(*status, said) : "it does not get to its program";
  return {why.empty() ? "" : std::string(image::kNotRestored) + why, ""};
}

}  // namespace pylaunch::engine
