#ifndef PYLAUNCH_LAUNCHER_COMMAND_LINE_OPTIONS_H_
#define PYLAUNCH_LAUNCHER_COMMAND_LINE_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "image/baseline.h"
#include "launcher/command_line/command_words.h"
#include "launcher/command_line/worker_options.h"
#include "launcher/contract/preload_plan.h"

namespace pylaunch {

enum class CacheMode { kAuto, kReadonly, kSealed, kRefresh, kOff };
std::string_view CacheModeName(CacheMode mode);

enum class InitMode { kAsProcess1, kAlways, kNever };

// What the command line and the environment ask of pylaunch itself, and what is left for Python.
struct Options {
  struct PreloadArgument {
    std::string text;
    std::string source;  // "--preload" or "PYLAUNCH_PRELOAD".
  };
  std::vector<PreloadArgument> preload;  // The variable's (one a line), then the flags', in order.
  std::string python;                    // --python; empty: search.
  std::string cache;                     // --cache: the folder of archives; empty: the default one.
  CacheMode cache_mode = CacheMode::kAuto;
  bool image = false;  // --image: start from an image of the preloaded process, and make one.
  // Who says so, or that not (PYLAUNCH_IMAGE=0): the option, its variable, or the place in a
  // preload file; empty: nobody.
  std::string image_from;
  // --image-allow: the names of secret variables whose values it may hold.
  std::vector<std::string> image_allow;
  std::optional<uint64_t> cache_size;  // --cache-size in bytes; 0: no bound.
  std::string record;                  // --record: the preload file to write; empty: none.
  std::string report;  // --report: the report to write, its kind by its suffix; empty: none.
  std::optional<bool> fast_exit;          // --exit; nothing: fast if anything is preloaded.
  std::string exit_from;                  // As image_from.
  InitMode init = InitMode::kAsProcess1;  // --init
  bool explain = false;
  WorkerOptions workers;  // --workers and what goes with it.
  // Instead of running a program; one of them at most.
  bool build = false;
  bool image_build = false;
  bool image_shared = false;                    // --shared: for other users, too.
  image::CpuLevel cpu = image::CpuLevel::kOwn;  // --cpu: the processors that the image is for.
  std::string export_to;                        // --export: the file to write; empty: none.
  std::string import_from;                      // --import: the file to read; empty: none.
  bool stats = false;
  bool verify = false;
  bool prune = false;
  bool doctor = false;
  // What is to end without a program cannot end as stock would.
  bool needs_engine() const {
    return build || image_build || !export_to.empty() || !import_from.empty();
  }
  bool json = false;  // The report of any of these as JSON.
  bool help = false;
  bool help_workers = false;
  std::string completion;  // --completion: bash, zsh or fish; empty: none.
  bool version = false;
  bool ignore_environment = false;       // -E or -I stands among Python's options.
  std::vector<std::string> python_argv;  // argv[0] and everything that is not ours, in order.
  size_t program = 0;  // Where in python_argv Python's options end: at -c, -m, '-', '--', a file.
};

// `environment` ("NAME=value") is searched for the twins (PYLAUNCH_PRELOAD, PYLAUNCH_PYTHON,
// PYLAUNCH_CACHE, PYLAUNCH_CACHE_MODE, PYLAUNCH_CACHE_SIZE, PYLAUNCH_RECORD, PYLAUNCH_REPORT,
// PYLAUNCH_EXIT, PYLAUNCH_INIT, PYLAUNCH_EXPLAIN, PYLAUNCH_BUILD, PYLAUNCH_IMAGE,
// PYLAUNCH_IMAGE_BUILD, PYLAUNCH_IMAGE_ALLOW, PYLAUNCH_EXPORT, PYLAUNCH_IMPORT, PYLAUNCH_STATS,
// PYLAUNCH_VERIFY, PYLAUNCH_PRUNE, PYLAUNCH_DOCTOR, PYLAUNCH_WORKERS and its company) unless -E or
// -I is given; a flag wins over its twin, except that --preload adds; an empty variable counts as
// unset.
//
// Our options are read up to where CPython stops reading its own (Python/getopt.c): -c, -m, '-',
// '--', or the first argument that is no option; they may stand between Python's. Both
// `--name=value` and `--name value` work; a value that begins with '-' needs the first form, so
// that a forgotten value does not swallow an option. Python's own long options (--help-env,
// --help-xoptions, --help-all, --check-hash-based-pycs) pass through; --help and --version are
// ours, -h and -V Python's.
//
// INVALID_ARGUMENT: the message is a report in the house shape without what it begins with,
// "pylaunch: error: "; an unknown long option names the nearest known one, ours or Python's.
absl::StatusOr<Options> ParseOptions(const std::vector<std::string>& argv,
                                     const std::vector<std::string>& environment);

// Adds what preload files say of the start, where neither a flag nor a variable said something.
void Obey(const Directives& directives, Options* options);

// For one line of --explain: both settings, and who says so.
std::string SettingsInWords(const Options& options);

// All options of ours, as a table.
std::span<const OwnOption> OwnOptions();

// The text of --help: at most 24 lines of 80 columns, with defaults, ends with where Python's own
// help is (`-h`).
std::string HelpText();
// Of --help-workers: the options that go with --workers.
std::string WorkersHelpText();

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_COMMAND_LINE_OPTIONS_H_
