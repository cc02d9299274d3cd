#ifndef PYLAUNCH_LAUNCHER_HANDOFF_H_
#define PYLAUNCH_LAUNCHER_HANDOFF_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "launcher/preload_plan.h"

// What the front end tells the engine across execve: bytes in a memfd whose number stands in one
// environment variable. A memfd and not the variable itself, because the kernel limits one string
// to 128 KiB (MAX_ARG_STRLEN, execve(2)).

namespace pylaunch {

// "PYLAUNCH_HANDOFF=<fd>:<engine fd or -1>:<pid>". The engine removes it before anything of Python
// runs. The process id, which execve keeps, tells an engine that was meant for this process from
// one that a child inherited.
inline constexpr char kHandoffVariable[] = "PYLAUNCH_HANDOFF";

struct Handoff {
  std::string
      python;  // What CPython must take for its program name: decides sys.prefix and friends.
  std::string engine;        // Absolute path of the engine, as it stands first in LD_PRELOAD.
  std::string sealer;        // Absolute path of pylaunch-sealer.
  std::string doctor;        // Absolute path of the doctor's folder.
  std::string builder;       // --build: the script that runs instead of the program; else empty.
  bool json = false;         // Its report as JSON.
  std::string reporter;      // Absolute path of the script that writes `record` and `report`.
  std::string record;        // --record: absolute; empty: not asked for.
  std::string report;        // --report: absolute; empty: not asked for.
  std::string cache_folder;  // Empty: no archive.
  bool cache_readonly = false;
  bool cache_sealed = false;
  bool cache_refresh = false;
  uint64_t cache_size = 0;  // Bound of the folder; 0: none.
  bool explain = false;
  bool fast_exit = false;
  bool wait_for_seal = false;
  PreloadPlan plan;

  std::string Serialize() const;
  static std::optional<Handoff> Parse(std::string_view bytes);
};

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_HANDOFF_H_
