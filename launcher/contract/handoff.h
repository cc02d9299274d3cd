#ifndef PYLAUNCH_LAUNCHER_CONTRACT_HANDOFF_H_
#define PYLAUNCH_LAUNCHER_CONTRACT_HANDOFF_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "image/handoff_variable.h"
#include "image/order.h"
#include "launcher/contract/preload_plan.h"

// What the front end tells the engine across execve: bytes in a memfd whose number stands in one
// environment variable (image/handoff_variable.h).

namespace pylaunch {

// What lies in Handoff::library: beside the front end in a build tree, where it has not
// kInstalledLibrary, seen from there.
inline constexpr char kInstalledLibrary[] = "../libexec/pylaunch";
inline constexpr char kEnginePrefix[] = "engine-cpython-";  // "<major>.<minor>.so"
inline constexpr char kSealerFile[] = "pylaunch-sealer";
inline constexpr char kDoctorFolder[] = "doctor";
inline constexpr char kReporterFile[] = "report/__main__.py";
inline constexpr char kBuilderFile[] = "builder/__main__.py";
inline constexpr char kResumeFolder[] = "resume";

// The engine asks for these (image/facts.h).
using image::IgnoredFact;
using image::kArguments;
using image::kCommandLine;
using image::kHostName;
using image::kProgramName;
using image::kWorkingDirectory;
using image::TerminalFact;

struct Handoff {
  std::string
      python;  // What CPython must take for its program name: decides sys.prefix and friends.
  std::string library;       // Absolute path of the folder of engine, sealer and scripts.
  bool build = false;        // --build: the builder runs instead of the program.
  bool json = false;         // Its report as JSON.
  std::string record;        // --record: absolute; empty: not asked for.
  std::string report;        // --report: absolute; empty: not asked for.
  std::string cache_folder;  // Empty: no archive.
  bool cache_named = false;  // By --cache or PYLAUNCH_CACHE; else it is where it always is.
  bool cache_readonly = false;
  bool cache_sealed = false;
  bool cache_refresh = false;
  uint64_t cache_size = 0;  // Bound of the folder; 0: none.
  bool explain = false;
  bool fast_exit = false;
  bool wait_for_seal = false;
  bool image_only = false;  // --image-build: no program runs.
  // A restored process that is to end where the program would begin (image_trial.h).
  bool image_trial = false;
  // Its image, and a memory file for the pages that it needed (image_trial.h).
  std::string trial_image;
  int trial_pages = -1;
  bool trial_ends = false;  // It goes on, to see which pages an end needs.
  // A descriptor that other workers wait for the end of: while it is open, this process may be
  // making the image that they start from (launcher/workers/supervisor.h). -1: nobody waits.
  int image_turn = -1;
  std::string export_to;  // --export and --import: absolute; no program runs.
  std::string import_from;
  bool only_shared = false;             // --export --shared.
  PreloadPlan plan;                     // But its directives: they have been obeyed.
  std::vector<std::string> directives;  // Those, as lines; --record keeps them.
  image::ImageOrder image;

  std::string Serialize() const;
  static std::optional<Handoff> Parse(std::string_view bytes);
  // HandoffVariable::usual
  static std::optional<Handoff> ParseUsual(std::string_view text);

  std::string LibraryFile(std::string_view name) const;
};

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_CONTRACT_HANDOFF_H_
