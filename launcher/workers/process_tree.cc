#include "launcher/workers/process_tree.h"

#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>
#include <fstream>
#include <map>
#include <string>
#include <string_view>

namespace pylaunch {
namespace {

// Of /proc/PID/stat, behind the name, which may hold anything: " STATE PARENT ..." (proc(5)).
// 0: none, or a zombie.
pid_t ParentOf(const std::string& pid) {
  std::ifstream file("/proc/" + pid + "/stat");
  std::string line;
  if (!std::getline(file, line)) return 0;
  const size_t name_end = line.rfind(')');
  if (name_end == line.npos || name_end + 4 >= line.size() || line[name_end + 2] == 'Z') return 0;
  const char* parent = line.data() + name_end + 4;
  pid_t result = 0;
  std::from_chars(parent, line.data() + line.size(), result);
  return result;
}

std::multimap<pid_t, pid_t> ChildrenByParent() {
  std::multimap<pid_t, pid_t> children;
  DIR* folder = opendir("/proc");
  if (folder == nullptr) return children;
  while (const dirent* entry = readdir(folder)) {
    const std::string_view name = entry->d_name;
    pid_t pid = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (error != std::errc() || end != name.data() + name.size()) continue;
    if (const pid_t parent = ParentOf(entry->d_name); parent != 0) children.emplace(parent, pid);
  }
  closedir(folder);
  return children;
}

}  // namespace

std::vector<pid_t> Descendants(const std::vector<pid_t>& ancestors) {
  const std::multimap<pid_t, pid_t> children = ChildrenByParent();
  std::vector<pid_t> found;
  std::vector<pid_t> open = ancestors;
  while (!open.empty()) {
    const pid_t parent = open.back();
    open.pop_back();
    const auto [begin, end] = children.equal_range(parent);
    for (auto it = begin; it != end; ++it) {
      found.push_back(it->second);
      open.push_back(it->second);
    }
  }
  return found;
}

void KillAllBelow() {
  constexpr int kRounds = 500;
  constexpr useconds_t kPause = 10'000;
  for (int round = 0; round < kRounds; ++round) {
    const std::vector<pid_t> alive = Descendants({getpid()});
    for (const pid_t pid : alive) kill(pid, SIGKILL);
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    // Nothing was found, and nothing that has just been orphaned is a child by now.
    if (alive.empty() && waitpid(-1, nullptr, WNOHANG) < 0) return;
    if (!alive.empty() || round > 0) usleep(kPause);
  }
}

}  // namespace pylaunch
