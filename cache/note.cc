#include "cache/note.h"

#include <algorithm>

#include "cache/trust.h"

namespace pylaunch::cache {
namespace {

constexpr size_t kLongest = 4096;

std::string NotePath(const std::string& archive) { return archive + ".note"; }

}  // namespace

void LeaveNote(FileEnv& env, const std::string& archive, const std::string& what) {
  (void)ReplaceFile(env, NotePath(archive), what);
}

std::string TakeNote(FileEnv& env, const std::string& archive) {
  const std::string path = NotePath(archive);
  const auto st = env.Stat(path);
  if (!st) return "";
  auto what = env.ReadFile(path, kLongest);
  (void)env.Unlink(path);
  if (!what || !WhyNotTrusted(env, *st, path).empty()) return "";
  std::replace_if(
      what->begin(), what->end(), [](unsigned char c) { return c < ' ' || c == 0x7f; }, ' ');
  return *what;
}

}  // namespace pylaunch::cache
