#include "image/room.h"

#include <linux/magic.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <string_view>

#include "image/capture.h"
#include "image/image_files.h"

namespace pylaunch::image {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
// For what does not grow with the process: tables, the capturing process's working memory, the
// process that tries the image.
constexpr uint64_t kBase = 48 * kMiB;

std::string Text(const std::string& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::optional<uint64_t> Number(const std::string& path) {
  std::ifstream file(path);
  uint64_t number;
  // "max", and version 1's way to say so: the largest multiple of a page.
  constexpr uint64_t kNoLimit = uint64_t{1} << 62;
  if (!(file >> number) || number >= kNoLimit) return std::nullopt;
  return number;
}

// Behind `name`, at the beginning of a line of "name number".
uint64_t NumberAt(const std::string& text, std::string_view name) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name)) return std::strtoull(line.c_str() + name.size(), nullptr, 10);
  }
  return 0;
}

// A hierarchy of control groups in which memory is limited.
struct Hierarchy {
  std::string point;  // Where it is mounted,
  std::string top;    // which group that is,
  std::string group;  // and this process's.
  bool unified;       // Version 2.
};

std::string GroupOf(const std::string& root, bool unified) {
  std::istringstream lines(Text(root + "/proc/self/cgroup"));
  for (std::string line; std::getline(lines, line);) {  // "4:memory,x:/group", "0::/group"
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == line.npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    if (unified ? controllers == ",," : controllers.find(",memory,") != controllers.npos) {
      return line.substr(second + 1);
    }
  }
  return "";
}

// proc(5), mountinfo: "31 23 0:28 /top /point options ... - type source options".
std::optional<Hierarchy> HierarchyIn(const std::string& root, const std::string& line) {
  std::istringstream fields(line), rest;
  std::string skipped, top, point, type, source, options;
  fields >> skipped >> skipped >> skipped >> top >> point;
  const size_t dash = line.find(" - ");
  if (dash == line.npos) return std::nullopt;
  rest.str(line.substr(dash + 3));
  rest >> type >> source >> options;
  const bool unified = type == "cgroup2";
  const bool memory = ("," + options + ",").find(",memory,") != std::string::npos;
  if (!unified && !(type == "cgroup" && memory)) return std::nullopt;
  return Hierarchy{root + point, top, GroupOf(root, unified), unified};
}

void Take(const MemoryRoom& other, MemoryRoom* least) {
  if (other.bytes < least->bytes) *least = other;
}

// What one group allows.
void AddGroup(const std::string& folder, bool unified, MemoryRoom* least) {
  const auto used = Number(folder + (unified ? "/memory.current" : "/memory.usage_in_bytes"));
  if (!used) return;
  const uint64_t files =
      NumberAt(Text(folder + "/memory.stat"), unified ? "inactive_file " : "total_inactive_file ");
  const uint64_t held = *used - std::min(*used, files);
  for (const char* name : {unified ? "/memory.max" : "/memory.limit_in_bytes",
                           unified ? "/memory.high" : "/memory.memsw.limit_in_bytes"}) {
    const auto limit = Number(folder + name);
    if (limit) Take({*limit - std::min(*limit, held), folder + name}, least);
  }
}

// The process's group and all above it that can be seen.
void AddHierarchy(const Hierarchy& hierarchy, MemoryRoom* least) {
  const auto& [point, top, group, unified] = hierarchy;
  // A group that is not below `top` is not to be seen from here; what is mounted is nearest.
  std::string below = top == "/" ? group : group.starts_with(top) ? group.substr(top.size()) : "";
  if (below == "/" || below.find("..") != below.npos) below.clear();
  for (;; below.resize(below.rfind('/'))) {
    AddGroup(point + below, unified, least);
    if (below.find('/') == below.npos) return;
  }
}

// In bytes; what proc(5) tells is in kB.
uint64_t Status(const std::string& status, std::string_view name) {
  return NumberAt(status, name) * 1024;
}

std::string InMiB(uint64_t bytes) { return std::to_string(bytes / kMiB) + " MiB"; }

std::string NoRoom(const std::string& needed, const std::string& limit, uint64_t left) {
  return std::string(kNoRoom) + "it may take " + needed + ", and " + limit + " leaves " +
         InMiB(left);
}

// Of limits that a process has for itself (getrlimit(2)), `used` of which is in use.
std::string WhyNotBy(__rlimit_resource which, const char* words, uint64_t used, uint64_t needed) {
  rlimit limit;
  if (getrlimit(which, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return "";
  const uint64_t left = limit.rlim_cur - std::min<uint64_t>(limit.rlim_cur, used);
  return left >= needed ? "" : NoRoom(InMiB(needed), words, left);
}

}  // namespace

MemoryRoom MemoryLeft(const std::string& root) {
  MemoryRoom least;
  const std::string machine = Text(root + "/proc/meminfo");
  if (!machine.empty()) Take({Status(machine, "MemAvailable:"), "this machine"}, &least);
  std::istringstream mounts(Text(root + "/proc/self/mountinfo"));
  for (std::string line; std::getline(mounts, line);) {
    const std::optional<Hierarchy> hierarchy = HierarchyIn(root, line);
    if (hierarchy) AddHierarchy(*hierarchy, &least);
  }
  return least;
}

RoomNeeded NeededFor(uint64_t own, bool in_memory) {
  return {own + own / 10 + kBase + (in_memory ? own : 0), 2 * own};
}

Room RoomFor(const std::string& folder, const std::string& root) {
  const std::string status = Text(root + "/proc/self/status");
  const uint64_t own = Status(status, "RssAnon:") + Status(status, "VmSwap:");
  struct statfs system = {};
  statfs(folder.c_str(), &system);
  const bool in_memory = system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC;
  const RoomNeeded needed = NeededFor(own, in_memory);
  const MemoryRoom room = MemoryLeft(root);
  if (room.bytes < needed.memory) {
    return {NoRoom(InMiB(needed.memory) + " of memory", room.limit, room.bytes)};
  }
  struct statvfs disk = {};
  const bool known = statvfs(folder.c_str(), &disk) == 0 && disk.f_blocks > 0;
  const uint64_t free = static_cast<uint64_t>(disk.f_bavail) * disk.f_frsize;
  if (known && free < needed.disk)
    return {NoRoom(InMiB(needed.disk), "the disk of " + folder, free)};
  for (const std::string& why :
       {WhyNotBy(RLIMIT_AS, "the limit of the address space (ulimit -v)", Status(status, "VmSize:"),
                 kScratchSize + kBase),
        WhyNotBy(RLIMIT_DATA, "the limit of data (ulimit -d)", Status(status, "VmData:"), kBase)}) {
    if (!why.empty()) return {why};
  }
  return {"", room.bytes < needed.memory + 2 * own + kBase};
}

}  // namespace pylaunch::image
