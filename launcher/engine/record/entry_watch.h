#ifndef PYLAUNCH_LAUNCHER_ENGINE_RECORD_ENTRY_WATCH_H_
#define PYLAUNCH_LAUNCHER_ENGINE_RECORD_ENTRY_WATCH_H_

#include <Python.h>

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "image/capture.h"
#include "image/late.h"
#include "launcher/engine/record/process_state.h"

namespace pylaunch::engine {

// Tells which entry of the plan left what an image cannot hold, by what there was before each of
// them. Needs the GIL.
class EntryWatch {
 public:
  // Call before each entry with its index in the plan.
  void Before(size_t entry);
  // Call after the last one.
  void End() { Before(0); }

  // Who left what.
  struct Blame {
    image::LateEntries entries;
    // What came from no entry ("left a timer running"): site, a .pth file. Empty: nothing did.
    std::string nobody;
  };
  // Of what is left now. What came after End() is taken for the deed of a thread that an entry
  // left.
  Blame Judge(const std::vector<ProcessState::Part>& parts,
              const std::vector<image::Thread>& threads) const;

 private:
  struct Step {
    size_t entry;  // What came next.
    ProcessState state;
    std::set<pid_t> threads;
    Py_ssize_t modules;  // How many there were.
    uint64_t output;     // Another number whenever something was printed.
  };

  // The number of the first step from which on `there` was so, up to the end.
  template <typename There>
  size_t Since(const There& there) const;
  // Whether the entry before that step has printed anything.
  bool HasPrinted(size_t step) const;
  // Sources and extensions that came into sys.modules before that step.
  std::vector<image::FileProof> FilesBefore(size_t step) const;

  std::vector<Step> steps_;
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_RECORD_ENTRY_WATCH_H_
