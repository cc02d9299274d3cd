#include "launcher/engine/imaging/archive_path.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>

namespace pylaunch::engine {
namespace {

// What a pipe that the front end could not do without held has been read (launcher/main.cc,
// FilledPipe). Any other file is read again from its start.
void Refill(int fd, const std::string& bytes) {
  int ends[2];
  if (lseek(fd, 0, SEEK_SET) == 0 || pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0) return;
  if (write(ends[1], bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size())) {
    dup2(ends[0], fd);
  }
}

// execve(2) keeps what is ignored, and resets only what has a handler.
void ResetSignals(const sigset_t& mask, const sigset_t& ignored) {
  for (int number = 1; number < NSIG; ++number) {
    struct sigaction action = {};
    action.sa_handler = sigismember(&ignored, number) == 1 ? SIG_IGN : SIG_DFL;
    sigaction(number, &action, nullptr);
  }
  sigprocmask(SIG_SETMASK, &mask, nullptr);
}

}  // namespace

ArchivePath::ArchivePath(const image::Restored& restored) : argv_(restored.argv) {
  for (char** e = restored.envp; *e != nullptr; ++e) environment_.push_back(*e);
  for (char*& entry : environment_) {
    const std::string_view text = entry;
    std::string* wiped = HandoffValue(entry) != nullptr    ? &handoff_
                         : text.starts_with("LD_PRELOAD=") ? &preload_
                                                           : nullptr;
    if (wiped == nullptr || !wiped->empty()) continue;  // The engine takes the first one only.
    *wiped = text;
    entry = wiped->data();
  }
  environment_.push_back(nullptr);
}

bool ArchivePath::MakeWayFor(const std::vector<OpenFile>& files) {
  int highest = 0;
  for (const OpenFile& file : files) highest = std::max(highest, file.fd);
  for (const OpenFile& file : files) {
    if (fcntl(file.fd, F_GETFD) < 0) continue;
    const auto ours = std::find(descriptors_.begin(), descriptors_.end(), file.fd);
    if (ours == descriptors_.end()) return false;
    const int moved = fcntl(file.fd, F_DUPFD_CLOEXEC, highest + 1);
    if (moved < 0) return false;
    moved_.emplace_back(file.fd, moved);
    close(file.fd);
    *ours = moved;
  }
  return true;
}

void ArchivePath::Take(const Handoff& handoff, const sigset_t& mask, const sigset_t& ignored) {
  HandoffVariable told;
  char* const value = HandoffValue(handoff_.data());
  const bool whole = value != nullptr && ParseHandoffVariable(value, &told);
  if (descriptors_.empty() || !whole || told.python == nullptr) return;
  for (const auto& [from, to] : moved_) {
    dup2(to, from);
    std::replace(descriptors_.begin(), descriptors_.end(), to, from);
  }
  Refill(descriptors_[0], handoff.Serialize());
  ResetSignals(mask, ignored);
  execve(told.python, argv_, environment_.data());
}

void ArchivePath::Close() {
  for (const int fd : descriptors_) close(fd);
  descriptors_.clear();
}

}  // namespace pylaunch::engine
