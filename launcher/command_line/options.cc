#include "launcher/command_line/options.h"

#include <algorithm>
#include <array>
#include <exception>
#include <memory>
#include <optional>
#include <sstream>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/str_split.h"
#include "launcher/command_line/command_words.h"
#include "launcher/contract/text.h"

// Reading order: kOwnOptions says what there is, PartWords (command_words.h) parts our words from
// Python's, OwnParser gives ours to CLI11. A start that uses none of our options never builds a
// CLI11 app.

namespace pylaunch {
namespace {

constexpr OwnOption kOwnOptions[] = {
    {"--preload", "ARG", "PYLAUNCH_PRELOAD",
     "import this first: @FILE, DIR/FILE, *.txt or 'import M'"},
    {"--image", nullptr, "PYLAUNCH_IMAGE", "start from an image of what was preloaded"},
    {"--image-build", nullptr, "PYLAUNCH_IMAGE_BUILD",
     "make that image now, end (--shared, --cpu: for others)", false, nullptr,
     "make that image now, and end"},
    {"--shared", nullptr, "PYLAUNCH_SHARED", "", false, nullptr,
     "with --image-build: an image for all users"},
    {"--cpu", "LEVEL", "PYLAUNCH_CPU", "", false, "x86-64-v2 x86-64-v3 x86-64-v4",
     "with --image-build: an image for all processors of LEVEL"},
    {"--image-allow", "NAMES", "PYLAUNCH_IMAGE_ALLOW",
     "secret variables (A,B) whose values an image may hold"},
    {"--python", "PYTHON", "PYLAUNCH_PYTHON",
     "executable, name on PATH or folder (default: active)"},
    {"--cache", "DIR", "PYLAUNCH_CACHE", "archives and images (default: ~/.cache/pylaunch)"},
    {"--cache-mode", "MODE", "PYLAUNCH_CACHE_MODE",
     "auto (default), readonly, sealed, refresh or off", false, "auto readonly sealed refresh off"},
    {"--cache-size", "SIZE", "PYLAUNCH_CACHE_SIZE",
     "how large DIR may grow (default 4G; 0: no bound)"},
    {"--record", "FILE", "PYLAUNCH_RECORD",
     "a preload file; costs: *.html, *.json, *.speedscope.json", false, nullptr,
     "write the preload file of what the program imports"},
    {"--report", "FILE", "PYLAUNCH_REPORT", "", false, nullptr,
     "write what imports cost: *.html, *.json, *.speedscope.json"},
    {"--exit", "MODE", "PYLAUNCH_EXIT", "fast (default), or full: take preloads apart at the end",
     false, "fast full"},
    {"--workers", "N", "PYLAUNCH_WORKERS", "run N of it (or auto) and mind them: --help-workers",
     false, "auto", "run N processes of the program (or auto), and mind them"},
    {"--init", "WHEN", "PYLAUNCH_INIT", "be an init: always or never (default: as process 1)",
     false, "always never"},
    {"--explain", nullptr, "PYLAUNCH_EXPLAIN", "say on stderr what was done and why"},
    {"--build", nullptr, "PYLAUNCH_BUILD",
     "archive what ARGS name (else --preload, else all); end"},
    {"--export", "FILE", "PYLAUNCH_EXPORT", "write archive and images to a FILE, or add one; end",
     false, nullptr, "write this Python's archive and images to FILE, and end"},
    {"--import", "FILE", "PYLAUNCH_IMPORT", "", false, nullptr,
     "add what FILE holds to the archive and the images, and end"},
    {"--stats", nullptr, "PYLAUNCH_STATS", "show what archives and images hold, or check it; end",
     false, nullptr, "show what archives and images hold, and end"},
    {"--verify", nullptr, "PYLAUNCH_VERIFY", "", false, nullptr,
     "check every byte of archives and images, and end"},
    {"--prune", nullptr, "PYLAUNCH_PRUNE", "cut --cache down to --cache-size, and end"},
    {"--doctor", nullptr, "PYLAUNCH_DOCTOR", "examine the environment, and end; 1 if it is ill"},
    {"--json", nullptr, nullptr, "report as JSON: with what ends, or --workers"},
    {"--distributed", nullptr, "PYLAUNCH_DISTRIBUTED",
     "set RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT", true},
    {"--threads", "K", "PYLAUNCH_THREADS",
     "OMP_NUM_THREADS and its like, where unset (default: processors / N; or keep)", true, "keep"},
    {"--gpus-per-worker", "K", "PYLAUNCH_GPUS_PER_WORKER",
     "deal out the visible GPUs by CUDA_VISIBLE_DEVICES", true},
    {"--restart", "WHEN", "PYLAUNCH_RESTART",
     "never (default), on-failure[:MAX] or always[:MAX], after 1, 2, 4 ... 60 s", true,
     "never on-failure always"},
    {"--on-failure", "DO", "PYLAUNCH_ON_FAILURE",
     "when one fails for good: continue (default), or stop the others", true, "continue stop"},
    {"--grace", "SECONDS", "PYLAUNCH_GRACE", "from a signal that ends to SIGKILL (default 30)",
     true},
    {"--log-dir", "DIR", "PYLAUNCH_LOG_DIR",
     "DIR/WORKER/ATTEMPT/stdout.log and stderr.log instead of our own streams", true},
    {"--no-prefix", nullptr, "PYLAUNCH_NO_PREFIX", "no [k] before each line of a worker", true},
    {"--stdin-to", "K", "PYLAUNCH_STDIN_TO", "worker K reads our stdin; the others, nothing", true},
    {"--help-workers", nullptr, nullptr, "", false, nullptr,
     "show the options that go with --workers, and end"},
    {"--completion", "SHELL", nullptr, "", false, "bash zsh fish",
     "print what makes Tab complete these options in SHELL, and end"},
    {"--help", nullptr, nullptr, "this text; versions; Tab in a shell: --completion SHELL", false,
     nullptr, "show the options, and end"},
    {"--version", nullptr, nullptr, "", false, nullptr,
     "show the versions of pylaunch and of its Python, and end"},
};

constexpr std::array<std::string_view, 5> kCacheModes = {"auto", "readonly", "sealed", "refresh",
                                                         "off"};

constexpr char kCpuHint[] = "x86-64-v2, x86-64-v3 or x86-64-v4";
constexpr char kMainGroup[] = "Options";  // CLI11's own.
constexpr char kWorkersGroup[] = "Workers";

// Keeps CLI11's layout for our own usage line and value names.
class HelpFormatter : public CLI::Formatter {
 public:
  explicit HelpFormatter(std::string group) : group_(std::move(group)) { column_width(22); }
  std::string make_usage(const CLI::App*, std::string) const override {
    return "usage: pylaunch [options] [python options] [-c CMD | -m MOD | FILE | -] [ARGS]\n";
  }
  // Every line of a terminal's 24 counts: no heading, no empty lines but one.
  std::string make_help(const CLI::App* app, std::string, CLI::AppFormatMode) const override {
    std::string text = make_usage(app, "");
    for (const CLI::Option* option : app->get_options()) {
      if (option->get_group() == group_) text += make_option(option, false);
    }
    return text + "\n" + app->get_footer() + "\n";
  }

 private:
  std::string group_;
};

// Our options, as CLI11 knows them. CLI11 takes "[a,b]" apart as a list, so every value travels
// behind a '=' of its own, which Plain removes.
class OwnParser {
 public:
  explicit OwnParser(Options* options) : options_(*options) {
    app_.set_help_flag();
    app_.formatter(std::make_shared<HelpFormatter>(kMainGroup));
    app_.footer(
        "Options stand before the program; each wins over its variable, as --cache-mode\n"
        "over PYLAUNCH_CACHE_MODE. Python's own options and their help: pylaunch -h");
    AddValue("--preload", &preload_)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    AddValue("--python", &options_.python);
    AddValue("--cache", &options_.cache);
    AddValue("--cache-mode", &cache_mode_)
        ->check(CLI::IsMember(std::vector<std::string>(kCacheModes.begin(), kCacheModes.end())));
    AddValue("--cache-size", &cache_size_);
    AddSwitch("--image", &options_.image);
    AddSwitch("--image-build", &options_.image_build);
    AddSwitch("--shared", &options_.image_shared)->group("");  // Shown with --image-build.
    AddValue("--cpu", &cpu_)->group("");                       // Likewise.
    AddValue("--image-allow", &image_allow_);
    AddValue("--record", &options_.record)->option_text("| --report");
    AddValue("--report", &options_.report)->group("");  // Shown with --record.
    AddValue("--exit", &exit_)->check(CLI::IsMember(std::vector<std::string>{"full", "fast"}));
    AddValue("--init", &init_)->check(CLI::IsMember(std::vector<std::string>{"always", "never"}));
    AddSwitch("--explain", &options_.explain);
    AddSwitch("--build", &options_.build);
    AddValue("--export", &options_.export_to)->option_text("| --import");
    AddValue("--import", &options_.import_from)->group("");  // Shown with --export.
    AddSwitch("--stats", &options_.stats)->option_text("| --verify");
    AddSwitch("--verify", &options_.verify)->group("");  // Shown with --stats.
    AddSwitch("--prune", &options_.prune);
    AddSwitch("--doctor", &options_.doctor);
    AddValue("--workers", &workers_.workers);
    AddSwitch("--json", &options_.json);
    AddSwitch("--help", &options_.help)->option_text("| --version");
    AddSwitch("--version", &options_.version)->group("");  // Shown with --help.
    AddSwitch("--help-workers", &options_.help_workers)->group("");
    AddValue("--completion", &options_.completion)
        ->group("")  // Shown with --help.
        ->check(CLI::IsMember(std::vector<std::string>{"bash", "zsh", "fish"}));
    AddWorkerOptions();
  }

  std::string Help() const { return app_.help(); }

  // Adds what `words` ("--name" or "--name=value") say to the options; `twin` is the variable they
  // come from, or empty.
  absl::Status Parse(const std::vector<std::string>& words, std::string_view twin) {
    std::vector<std::string> reversed;  // What App::parse wants.
    for (auto word = words.rbegin(); word != words.rend(); ++word) {
      const size_t equals = word->find('=');
      reversed.push_back(*word);
      if (equals != word->npos) reversed.back().insert(equals, 1, '=');
    }
    preload_.clear();
    cache_mode_.clear();
    cache_size_.clear();
    cpu_.clear();
    image_allow_.clear();
    exit_.clear();
    init_.clear();
    workers_ = {};
    try {
      app_.parse(std::move(reversed));
    } catch (const std::exception& error) {
      return Refused(error.what(), words, twin);
    }
    if (!cache_size_.empty()) {
      options_.cache_size = ParseSize(cache_size_);
      if (!options_.cache_size)
        return Refused("--cache-size: no size: " + cache_size_, words, twin);
    }
    if (absl::Status status = ParseWorkerWords(workers_, &options_.workers); !status.ok()) {
      return Refused(std::string(status.message()), words, twin, "see 'pylaunch --help-workers'");
    }
    if (!cpu_.empty()) {
      const std::optional<image::CpuLevel> level = image::ParseCpuLevel(cpu_);
      if (!level) return Refused("--cpu: no level: " + cpu_, words, twin, kCpuHint);
      options_.cpu = *level;
    }
    if (image_allow_.find('=') != image_allow_.npos) {
      return Refused("--image-allow: wants the names of variables, not their values", words, twin);
    }
    if (!image_allow_.empty()) {
      // Shells' lists have blanks.
      options_.image_allow =
          absl::StrSplit(image_allow_, absl::ByAnyChar(", \t"), absl::SkipEmpty());
    }
    for (std::string& text : preload_) {
      options_.preload.push_back({std::move(text), twin.empty() ? "--preload" : std::string(twin)});
    }
    const auto mode = std::find(kCacheModes.begin(), kCacheModes.end(), cache_mode_);
    if (mode != kCacheModes.end()) {
      options_.cache_mode = static_cast<CacheMode>(mode - kCacheModes.begin());
    }
    const auto from = [&](const char* name) { return std::string(twin.empty() ? name : twin); };
    if (!exit_.empty()) {
      options_.fast_exit = exit_ == "fast";
      options_.exit_from = from("--exit");
    }
    if (app_.count("--image") > 0) options_.image_from = from("--image");
    if (!init_.empty()) options_.init = init_ == "always" ? InitMode::kAlways : InitMode::kNever;
    return absl::OkStatus();
  }

  // The options that go with --workers, as --help shows the others.
  std::string WorkersHelp() const {
    return HelpFormatter(kWorkersGroup).make_help(&app_, "", CLI::AppFormatMode::All);
  }

 private:
  void AddWorkerOptions() {
    const std::pair<const char*, std::string*> values[] = {
        {"--threads", &workers_.threads},   {"--gpus-per-worker", &workers_.gpus_per_worker},
        {"--restart", &workers_.restart},   {"--on-failure", &workers_.on_failure},
        {"--grace", &workers_.grace},       {"--log-dir", &workers_.log_dir},
        {"--stdin-to", &workers_.stdin_to},
    };
    for (const auto& [name, value] : values) AddValue(name, value)->group(kWorkersGroup);
    AddSwitch("--distributed", &workers_.distributed)->group(kWorkersGroup);
    AddSwitch("--no-prefix", &workers_.no_prefix)->group(kWorkersGroup);
  }

  template <typename T>
  CLI::Option* AddValue(const char* name, T* value) {
    const auto plain = [](std::string text) { return text.substr(text.find('=') + 1); };
    return app_.add_option(name, *value, FindOwn(kOwnOptions, name)->help)
        ->option_text(FindOwn(kOwnOptions, name)->value)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
        ->transform(plain);
  }
  CLI::Option* AddSwitch(const char* name, bool* value) {
    return app_.add_flag(name, *value, FindOwn(kOwnOptions, name)->help);
  }

  // "500M", "1.5 GiB": units are powers of 1024, as in ccache's files and `ls -h`.
  static std::optional<uint64_t> ParseSize(std::string text) try {
    const CLI::AsSizeValue to_bytes(/*kb_is_1000=*/false);
    uint64_t bytes;
    const bool number = !text.starts_with('-') && to_bytes(text).empty();
    return number && CLI::detail::lexical_cast(text, bytes) ? std::optional(bytes) : std::nullopt;
  } catch (const CLI::Error&) {
    return std::nullopt;
  }

  // CLI11's complaints begin with the option's name; a variable's must name the variable.
  static absl::Status Refused(std::string complaint, const std::vector<std::string>& words,
                              std::string_view twin,
                              std::string_view hint = "see 'pylaunch --help'") {
    if (!twin.empty()) {
      const std::string name = words[0].substr(0, words[0].find('='));
      if (complaint.starts_with(name)) complaint.erase(0, name.size());
      complaint.insert(0, twin);
    }
    return Problem(complaint, hint);
  }

  Options& options_;
  std::vector<std::string> preload_;
  std::string cache_mode_;
  std::string cache_size_;
  std::string cpu_;
  std::string image_allow_;
  std::string exit_;
  std::string init_;
  WorkerWords workers_;
  CLI::App app_;
};

struct TwinValue {
  const OwnOption* option;
  std::string_view value;
};

std::vector<TwinValue> FindTwins(const std::vector<std::string>& environment) {
  std::vector<TwinValue> found;
  for (std::string_view setting : environment) {
    if (!setting.starts_with("PYLAUNCH_")) continue;
    const size_t equals = setting.find('=');
    if (equals == setting.npos || equals + 1 == setting.size()) continue;
    for (const OwnOption& option : kOwnOptions) {
      if (option.twin == nullptr || setting.substr(0, equals) != option.twin) continue;
      // As in getenv, the first of two settings counts.
      const bool again = std::any_of(found.begin(), found.end(), [&](const TwinValue& other) {
        return other.option == &option;
      });
      if (!again) found.push_back({&option, setting.substr(equals + 1)});
    }
  }
  return found;
}

std::optional<bool> ParseSwitch(std::string_view value) {
  std::string lower(value);
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  for (const char* word : {"1", "true", "yes", "on"}) {
    if (lower == word) return true;
  }
  for (const char* word : {"0", "false", "no", "off"}) {
    if (lower == word) return false;
  }
  return std::nullopt;
}

// The kind of a report is told by its suffix alone.
absl::Status CheckReport(std::string_view file) {
  if (file.empty() || file.ends_with(".html") || file.ends_with(".json")) return absl::OkStatus();
  return Problem(Cat("--report: '", file, "' has no suffix that says what to write"),
                 "FILE.html, FILE.json or FILE.speedscope.json");
}

// What is done instead of running a program.
std::vector<std::string_view> Actions(const Options& options) {
  std::vector<std::string_view> actions;
  const std::pair<bool, std::string_view> all[] = {
      {options.build, "--build"},
      {options.image_build, "--image-build"},
      {!options.export_to.empty(), "--export"},
      {!options.import_from.empty(), "--import"},
      {options.stats, "--stats"},
      {options.verify, "--verify"},
      {options.prune, "--prune"},
      {options.doctor, "--doctor"},
  };
  for (const auto& [asked, name] : all) {
    if (asked) actions.push_back(name);
  }
  return actions;
}

absl::Status CheckActions(const Options& options) {
  const std::vector<std::string_view> actions = Actions(options);
  if (actions.size() > 1) {
    return Problem(Cat("only one of ", actions[0], " and ", actions[1], " at a time"),
                   "run them one after the other");
  }
  if (options.image_shared && !options.image_build && options.export_to.empty()) {
    return Problem("--shared goes with --image-build or --export",
                   "pylaunch --image-build --shared ...");
  }
  if (options.cpu != image::CpuLevel::kOwn && !options.image_build) {
    return Problem("--cpu goes with --image-build", "pylaunch --image-build --cpu x86-64-v3 ...");
  }
  if (actions.empty()) {
    return options.json && !options.workers.wanted()
               ? Problem("option '--json' is for what reports and ends, as --doctor",
                         "pylaunch --doctor --json")
               : absl::OkStatus();
  }
  const std::string_view action = actions[0];
  if (options.image_shared && !options.image_allow.empty()) {
    return Problem("--shared is for images that hold no secret, --image-allow for those that do",
                   "leave out one of them");
  }
  const bool writes = options.build || options.image_build || !options.import_from.empty();
  if (writes && options.cache_mode != CacheMode::kAuto &&
      options.cache_mode != CacheMode::kRefresh) {
    return Problem(
        Cat(action, " writes what --cache-mode ", CacheModeName(options.cache_mode), " does not"),
        Cat(action, " with --cache-mode auto or refresh"));
  }
  return absl::OkStatus();
}

absl::Status CheckWorkers(const Options& options, const std::vector<std::string>& own) {
  if (options.workers.wanted()) {
    if (options.record.empty() && options.report.empty()) return absl::OkStatus();
    return Problem("--record and --report are for one process, not for workers",
                   "run the program once without --workers");
  }
  for (const std::string& word : own) {
    const OwnOption* option =
        FindOwn(kOwnOptions, std::string_view(word).substr(0, word.find('=')));
    if (option->of_workers) {
      return Problem(Cat("option '", option->name, "' goes with --workers"),
                     "see 'pylaunch --help-workers'");
    }
  }
  return absl::OkStatus();
}

// The words a twin stands for: none for a switch that is off, one for each line of a preload list.
absl::StatusOr<std::vector<std::string>> TwinWords(const TwinValue& twin) {
  std::vector<std::string> words;
  if (twin.option->value == nullptr) {
    const std::optional<bool> on = ParseSwitch(twin.value);
    if (!on.has_value()) {
      return Problem(Cat(twin.option->twin, ": '", twin.value, "' is neither true nor false"),
                     "1, true, yes or on; 0, false, no, off or nothing");
    }
    if (*on) words.push_back(twin.option->name);
    return words;
  }
  const bool list = std::string_view(twin.option->name) == "--preload";
  std::string_view rest = twin.value;
  while (!rest.empty()) {
    const std::string_view line = list ? rest.substr(0, rest.find('\n')) : rest;
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    words.push_back(Cat(twin.option->name, "=", line));
  }
  return words;
}

}  // namespace

std::span<const OwnOption> OwnOptions() { return kOwnOptions; }

std::string_view CacheModeName(CacheMode mode) { return kCacheModes[static_cast<size_t>(mode)]; }

absl::StatusOr<Options> ParseOptions(const std::vector<std::string>& argv,
                                     const std::vector<std::string>& environment) {
  Options options;
  absl::StatusOr<CommandWords> line = PartWords(argv, kOwnOptions);
  if (!line.ok()) return line.status();
  options.python_argv = std::move(line->python);
  options.program = line->program;
  options.ignore_environment = line->ignore_environment;
  std::vector<TwinValue> twins;
  if (!options.ignore_environment) twins = FindTwins(environment);
  if (line->own.empty() && twins.empty()) return options;  // The usual start: no CLI11.

  OwnParser parser(&options);
  for (const TwinValue& twin : twins) {
    absl::StatusOr<std::vector<std::string>> words = TwinWords(twin);
    if (!words.ok()) return words.status();
    if (words->empty()) {
      if (std::string_view(twin.option->name) == "--image") options.image_from = twin.option->twin;
      continue;
    }
    if (absl::Status status = parser.Parse(*words, twin.option->twin); !status.ok()) return status;
  }
  if (!line->own.empty()) {
    if (absl::Status status = parser.Parse(line->own, ""); !status.ok()) return status;
  }
  if (absl::Status status = CheckActions(options); !status.ok()) return status;
  if (absl::Status status = CheckWorkers(options, line->own); !status.ok()) return status;
  if (absl::Status status = CheckReport(options.report); !status.ok()) return status;
  return options;
}

void Obey(const Directives& directives, Options* options) {
  if (options->image_from.empty() && directives.image) {
    options->image = true;
    options->image_from = directives.image->ToString();
  }
  if (options->exit_from.empty() && directives.exit) {
    options->fast_exit = directives.fast_exit;
    options->exit_from = directives.exit->ToString();
  }
}

std::string SettingsInWords(const Options& options) {
  return Cat(options.image ? "image" : "no image", options.image_from.empty() ? "" : " by ",
             options.image_from, options.fast_exit.value_or(true) ? ", exit fast" : ", exit full",
             " by ", options.exit_from.empty() ? "default" : options.exit_from);
}

std::string HelpText() {
  Options unused;
  return OwnParser(&unused).Help();
}

std::string WorkersHelpText() {
  Options unused;
  return OwnParser(&unused).WorkersHelp();
}

}  // namespace pylaunch
