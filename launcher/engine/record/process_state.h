#ifndef PYLAUNCH_LAUNCHER_ENGINE_RECORD_PROCESS_STATE_H_
#define PYLAUNCH_LAUNCHER_ENGINE_RECORD_PROCESS_STATE_H_

#include <sys/types.h>

#include <compare>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace pylaunch::engine {

// What belongs to a process and not to its memory: a restored process has its starter's, so
// preloading must leave it as it was. Not its threads: which of them will be left, only fork
// handlers tell (image/capture.h). Nor its signals and its use of the processor: those are put back
// (resume.h).
struct ProcessState {
  // One thing, as what would be said of it if it were left: "changed the umask".
  struct Part {
    std::string words;
    std::string which;    // Tells it from another of the same words: the umask.
    int descriptor = -1;  // That which is another file now, or none (`which` is empty).
    uint64_t address =
        0;  // Of memory that an earlier state tells nothing of but that it was there.
    auto operator<=>(const Part&) const = default;
  };
  std::set<Part> parts;
  std::map<int, std::string> descriptors;  // What each is, as /proc/self/fd tells.
  // Mappings, which it takes the kernel a millisecond or two to list, and how many pages they have.
  std::set<Part> memory;
  std::vector<std::pair<uint64_t, uint64_t>> mapped;  // From where to where, in order.
  uint64_t pages = 0;

  // `earlier`, if not null: as many pages now as then are the same mappings, and of mappings it is
  // told only where they lie: what has been asked of the kernel for one (image/region_map.h,
  // `traits`) would take it ten times as long.
  static ProcessState Now(const ProcessState* earlier = nullptr);
  // Of memory: true as well if only something else was there.
  bool Has(const Part& part) const;
};

// What is of `now`, which is how this process is, and not of `before`, and descriptors that are of
// `before` only. Files that are opened again (open_files.h) are not left.
std::vector<ProcessState::Part> WhatWasLeft(const ProcessState& before, const ProcessState& now);

// The ids of this process's threads.
std::set<pid_t> Threads();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_RECORD_PROCESS_STATE_H_
