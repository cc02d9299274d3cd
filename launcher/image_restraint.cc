#include "launcher/image_restraint.h"

#include <cstdint>
#include <functional>
#include <optional>

#include "cache/file_env.h"
#include "launcher/key_file.h"

namespace pylaunch {
namespace {

constexpr int kMaxUnused = 4;
constexpr int64_t kHourNs = 3600LL * 1'000'000'000;
constexpr int64_t kDayNs = 24 * kHourNs;
constexpr size_t kMaxNote = 4096;

// Shows the head of every key of this command that could be for this start, as far as that does not
// depend on what preloading read.
using Visitor = std::function<void(const KeyFile& file, const image::KeyHead& head)>;
void VisitSiblings(const std::string& folder, const ImageOrder& order, const Visitor& visit) {
  for (const std::string& key : KeysOf(folder, order.command)) {
    const KeyFile file(key);
    const std::optional<image::KeyHead> head = file.Head();
    if (head && CountMissing(order.facts, head->facts) == 0) visit(file, *head);
  }
}

bool IsForThisStart(const ImageOrder& order, const image::KeyHead& head) {
  return image::Difference(head.facts, FactsNow(order, head)).empty();
}

// Whether what happened then speaks against another try at `now_ns`. A clock that was set back
// stops nobody.
bool IsWithin(int64_t period_ns, int64_t then_ns, int64_t now_ns) {
  return then_ns <= now_ns && now_ns - then_ns < period_ns;
}

}  // namespace

std::string WhyNotAnother(const std::string& folder, const ImageOrder& order) {
  cache::FileEnv& env = cache::PosixFileEnv();
  const int64_t now_ns = env.NowNs();
  const std::string path = image::NoteFor(folder, order.command, order.facts);
  const auto note = env.ReadFile(path, kMaxNote);
  if (note && note->starts_with(image::kNotRestored) &&
      IsWithin(kHourNs, image::StateOf(path).mtime_ns, now_ns)) {
    return "; tried again an hour after that";
  }
  int unused = 0;
  bool replaces = false;  // One that is there, and of no use any more.
  VisitSiblings(folder, order, [&](const KeyFile& file, const image::KeyHead& head) {
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
  VisitSiblings(order.folder, order, [&](const KeyFile& file, const image::KeyHead& head) {
    if (head.image.ctime_ns <= order.started_ns || !IsForThisStart(order, head)) return;
    const std::optional<image::Key> key = file.Whole();
    made |= key && image::FirstChange(*key).empty();
  });
  return made;
}

}  // namespace pylaunch
