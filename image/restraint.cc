#include "image/restraint.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <optional>

#include "cache/file_env.h"
#include "cache/prune.h"
#include "cache/stat_proof.h"
#include "image/folder_lock.h"
#include "image/image_files.h"
#include "image/key_file.h"
#include "image/travel.h"

namespace pylaunch::image {
namespace {

constexpr int kMaxUnused = 4;
constexpr int64_t kHourNs = 3600LL * 1'000'000'000;
constexpr int64_t kDayNs = 24 * kHourNs;
constexpr size_t kMaxNote = 4096;
constexpr char kTriedAgain[] = "; tried again an hour after that";

// Shows the head of every key of this command that could be for this start, as far as that does not
// depend on what preloading read.
using Visitor = std::function<void(const KeyFile& file, const KeyHead& head)>;
void VisitSiblings(const std::string& folder, const ImageOrder& order, const Visitor& visit) {
  const auto keys = KeysOf(folder, order.command, HostOf(order.facts));
  for (const std::string& key : keys ? *keys : std::vector<std::string>()) {
    const KeyFile file(key);
    const std::optional<KeyHead> head = file.Head();
    if (head && CountMissing(order.facts, head->facts) == 0) visit(file, *head);
  }
}

bool IsForThisStart(const ImageOrder& order, const KeyHead& head) {
  return Difference(head.facts, FactsNow(order, head)).empty();
}

// What was killed has left something.
bool CleanUp(const std::string& folder, const Facts& facts) {
  FolderLock lock(folder);
  const bool locked = lock.Take(/*wait=*/false);
  if (locked) RemoveUnfinished(folder, facts);
  return locked;
}

bool IsInVain(const std::string& note, const std::string& folder, const Facts& facts) {
  if (note.starts_with(kUnfinished)) return CleanUp(folder, facts);
  return note.starts_with(kNotRestored) || note.starts_with(kNoRoom);
}

// Whether what happened then speaks against another try at `now_ns`. A clock that was set back
// stops nobody.
bool IsWithin(int64_t period_ns, int64_t then_ns, int64_t now_ns) {
  return then_ns <= now_ns && now_ns - then_ns < period_ns;
}

}  // namespace

void RemoveUnfinished(const std::string& folder, const Facts& facts) {
  const uid_t user = geteuid();
  const int64_t now_ns = cache::PosixFileEnv().NowNs();
  auto names = cache::PosixFileEnv().ListFolder(folder);
  for (const std::string& name : names ? *names : std::vector<std::string>()) {
    const std::string path = folder + "/" + name;
    struct stat st;
    if (!IsUnfinished(name) || lstat(path.c_str(), &st) != 0 || st.st_uid != user) continue;
    const bool abandoned = now_ns - cache::NanosecondsOf(st.st_mtim) > cache::kTempLifeNs;
    if (abandoned || IsUnfinishedOf(name, facts)) unlink(path.c_str());
  }
}

bool IsBeingMade(const std::string& folder) { return FolderLock(folder).IsTaken(); }

std::string WhyNotAdopt(const std::string& image, const Facts& now) {
  const std::string path = NotAdoptedOf(image, HostOf(now));
  const auto note = cache::PosixFileEnv().ReadFile(path, kMaxNote);
  const bool counts =
      note && IsWithin(kHourNs, StateOf(path).mtime_ns, cache::PosixFileEnv().NowNs());
  return counts ? *note + kTriedAgain : "";
}

void NoteNotAdopted(const std::string& image, const Facts& now, const std::string& why) {
  (void)cache::ReplaceFile(cache::PosixFileEnv(), NotAdoptedOf(image, HostOf(now)), why);
}

std::string WhyNotAnother(const std::string& folder, const ImageOrder& order) {
  cache::FileEnv& env = cache::PosixFileEnv();
  const int64_t now_ns = env.NowNs();
  const std::string path = NoteFor(folder, order.command, order.facts);
  const auto note = env.ReadFile(path, kMaxNote);
  if (note && IsWithin(kHourNs, StateOf(path).mtime_ns, now_ns) &&
      IsInVain(*note, folder, order.facts)) {
    return kTriedAgain;
  }
  int unused = 0;
  bool replaces = false;  // One that is there, and of no use any more.
  VisitSiblings(folder, order, [&](const KeyFile& file, const KeyHead& head) {
    const bool never_used = file.used_ns() == head.image.mtime_ns;
    unused += never_used && IsWithin(kDayNs, head.image.mtime_ns, now_ns);
    replaces |= IsForThisStart(order, head);
  });
  if (replaces || unused < kMaxUnused) return "";
  return "; no more are made today: " + std::to_string(unused) +
         " were made and never used; --stats tells in what they differ";
}

bool IsMadeMeanwhile(const ImageOrder& order) {
  bool made = false;
  VisitSiblings(order.folder, order, [&](const KeyFile& file, const KeyHead& head) {
    if (head.image.ctime_ns <= order.started_ns || !IsForThisStart(order, head)) return;
    const std::optional<Key> key = file.Whole();
    made |= key && FirstChange(*key).empty();
  });
  return made;
}

}  // namespace pylaunch::image
