#include "launcher/command_line/options.h"

#include <algorithm>
#include <array>
#include <exception>
#include <memory>
#include <numeric>
#include <optional>
#include <sstream>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/strings/str_split.h"
#include "launcher/contract/python_options.h"
#include "launcher/contract/text.h"

// Reading order: kOwnOptions says what there is, CommandLine parts our words from Python's,
// OwnParser gives ours to CLI11. A start that uses none of our options never builds a CLI11 app.

namespace pylaunch {
namespace {

struct OwnOption {
  const char* name;
  const char* value;  // What --help calls the value; null: a switch.
  const char* twin;   // Environment variable; null: none.
  const char* help;
};

constexpr OwnOption kOwnOptions[] = {
    {"--preload", "ARG", "PYLAUNCH_PRELOAD",
     "import this first: @FILE, DIR/FILE, *.txt or 'import M'"},
    {"--image", nullptr, "PYLAUNCH_IMAGE", "start from an image of what was preloaded"},
    {"--image-build", nullptr, "PYLAUNCH_IMAGE_BUILD",
     "make the image that --image will use here, and end"},
    {"--image-allow", "NAMES", "PYLAUNCH_IMAGE_ALLOW",
     "secret variables (A,B) whose values an image may hold"},
    {"--python", "PYTHON", "PYLAUNCH_PYTHON",
     "executable, name on PATH or folder (default: active)"},
    {"--cache", "DIR", "PYLAUNCH_CACHE", "the folder of archives (default: ~/.cache/pylaunch)"},
    {"--cache-mode", "MODE", "PYLAUNCH_CACHE_MODE",
     "auto (default), readonly, sealed, refresh or off"},
    {"--cache-size", "SIZE", "PYLAUNCH_CACHE_SIZE", "bound of that folder (default 4G; 0: none)"},
    {"--record", "FILE", "PYLAUNCH_RECORD", "write a preload file of what it imports"},
    {"--report", "FILE", "PYLAUNCH_REPORT", "write what imports cost: *.html, *.json"},
    {"--exit", "MODE", "PYLAUNCH_EXIT",
     "full, or fast (as --image): keeps what was preloaded whole"},
    {"--explain", nullptr, "PYLAUNCH_EXPLAIN", "say on stderr what was done and why"},
    {"--build", nullptr, "PYLAUNCH_BUILD",
     "archive what ARGS name (else --preload, else all); end"},
    {"--export", "FILE", "PYLAUNCH_EXPORT", "write this Python's archive to FILE, and end"},
    {"--import", "FILE", "PYLAUNCH_IMPORT", "add what --export wrote to the archive; end"},
    {"--stats", nullptr, "PYLAUNCH_STATS", "show what archives and images hold, or check it; end"},
    {"--verify", nullptr, "PYLAUNCH_VERIFY", ""},
    {"--prune", nullptr, "PYLAUNCH_PRUNE", "cut that folder down to --cache-size, and end"},
    {"--doctor", nullptr, "PYLAUNCH_DOCTOR", "examine the environment, and end; 1 if it is ill"},
    {"--json", nullptr, nullptr, "let these report as JSON"},
    {"--help", nullptr, nullptr, "show this text; the versions of pylaunch and of its Python"},
    {"--version", nullptr, nullptr, ""},
};

// CPython 3.11's long options; Python judges what stands behind them.
constexpr std::string_view kHashPycs = "--check-hash-based-pycs";
constexpr std::string_view kPythonLongOptions[] = {kHashPycs, "--help-all", "--help-env",
                                                   "--help-xoptions"};

constexpr std::array<std::string_view, 5> kCacheModes = {"auto", "readonly", "sealed", "refresh",
                                                         "off"};

absl::Status Problem(std::string_view what, std::string_view hint) {
  return absl::InvalidArgumentError(Cat(what, "\n  hint:  ", hint));
}

const OwnOption* FindOwn(std::string_view name) {
  for (const OwnOption& option : kOwnOptions) {
    if (name == option.name) return &option;
  }
  return nullptr;
}

bool IsPythonLong(std::string_view name) {
  return std::find(std::begin(kPythonLongOptions), std::end(kPythonLongOptions), name) !=
         std::end(kPythonLongOptions);
}

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

// An error that names the nearest option, or OK where none is near: Python shall say so itself, as
// it does under stock.
absl::Status Misspelt(std::string_view name) {
  constexpr size_t kFar = 4, kLongestName = 64;
  std::string_view nearest;
  size_t best = kFar;
  const auto consider = [&](std::string_view known) {
    const size_t distance = EditDistance(name, known);
    if (distance < best) best = distance, nearest = known;
  };
  if (name.size() < kLongestName) {
    for (const OwnOption& option : kOwnOptions) consider(option.name);
    for (std::string_view known : kPythonLongOptions) consider(known);
  }
  if (nearest.empty()) return absl::OkStatus();
  return Problem(Cat("unknown option '", name, "'"),
                 Cat("did you mean '", nearest, "'? See 'pylaunch --help'"));
}

// Parts argv as CPython's getopt would read it, so that not one word after the program is looked
// at.
class CommandLine {
 public:
  explicit CommandLine(const std::vector<std::string>& argv) : argv_(argv) {}

  absl::Status Split() {
    if (argv_.empty()) return absl::OkStatus();
    PassOn();  // argv[0]
    while (next_ < argv_.size()) {
      const std::string_view word = argv_[next_];
      if (word.size() < 2 || word[0] != '-' || word == "--") break;
      if (word[1] != '-') {
        if (!ShortOptions(word.substr(1))) {
          program_ = python_.size() - 1;
          break;
        }
      } else if (absl::Status status = LongOption(word); !status.ok()) {
        return status;
      }
    }
    if (program_ == 0) program_ = python_.size();
    while (next_ < argv_.size()) PassOn();
    return absl::OkStatus();
  }

  bool ignore_environment() const { return ignore_environment_; }
  std::vector<std::string>& python() { return python_; }
  size_t program() const { return program_; }
  // Ours, as "--name" or "--name=value".
  std::vector<std::string>& own() { return own_; }

 private:
  void PassOn() { python_.push_back(argv_[next_++]); }
  void PassOnValue() {
    if (next_ < argv_.size()) PassOn();
  }

  // One word of short options. False: no option follows it (-c, -m, or one that Python will
  // refuse).
  bool ShortOptions(std::string_view letters) {
    PassOn();
    for (size_t i = 0; i < letters.size(); ++i) {
      switch (KindOfPythonOption(letters[i])) {
        case PythonOption::kSwitch:
          break;
        case PythonOption::kIsolating:
          ignore_environment_ = true;
          break;
        case PythonOption::kTakesValue:
          if (i + 1 == letters.size()) PassOnValue();
          return true;
        case PythonOption::kTakesProgram:
          return false;
        case PythonOption::kNone:
          return letters[i] == '-' && LateLongOption(letters.substr(i));
      }
    }
    return true;
  }

  // getopt.c takes the rest of "-B-help-all" for a long option.
  bool LateLongOption(std::string_view rest) {
    const std::string name = Cat("-", rest);
    if (name == kHashPycs) PassOnValue();
    return IsPythonLong(name);
  }

  absl::Status LongOption(std::string_view word) {
    const size_t equals = word.find('=');
    const std::string_view name = word.substr(0, equals);
    const OwnOption* own = FindOwn(name);
    if (own != nullptr) return Own(*own, word, equals);
    PassOn();
    if (word == kHashPycs) PassOnValue();
    return IsPythonLong(name) ? absl::OkStatus() : Misspelt(name);
  }

  absl::Status Own(const OwnOption& option, std::string_view word, size_t equals) {
    ++next_;
    const bool attached = equals != word.npos;
    if (option.value == nullptr) {
      if (attached) {
        return Problem(Cat("option '", option.name, "' takes no value"),
                       Cat("write '", option.name, "' alone"));
      }
      own_.emplace_back(word);
      return absl::OkStatus();
    }
    std::string_view value;
    if (attached) {
      value = word.substr(equals + 1);
    } else if (next_ < argv_.size() && !argv_[next_].starts_with('-')) {
      value = argv_[next_++];
    }
    if (value.empty()) {
      return Problem(Cat("option '", option.name, "' needs a value"),
                     Cat(option.name, "=", option.value, "; see 'pylaunch --help'"));
    }
    own_.push_back(Cat(option.name, "=", value));
    return absl::OkStatus();
  }

  const std::vector<std::string>& argv_;
  size_t next_ = 0;
  size_t program_ = 0;
  bool ignore_environment_ = false;
  std::vector<std::string> python_;
  std::vector<std::string> own_;
};

// Keeps CLI11's layout for our own usage line and value names.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(22); }
  std::string make_usage(const CLI::App*, std::string) const override {
    return "usage: pylaunch [options] [python options] [-c CMD | -m MOD | FILE | -] [ARGS]\n";
  }
  // Every line of a terminal's 24 counts: no heading, no empty lines but one.
  std::string make_help(const CLI::App* app, std::string, CLI::AppFormatMode) const override {
    std::string text = make_usage(app, "");
    for (const CLI::Option* option : app->get_options()) {
      if (!option->get_group().empty()) text += make_option(option, false);
    }
    return text + "\n" + app->get_footer() + "\n";
  }
};

// Our options, as CLI11 knows them. CLI11 takes "[a,b]" apart as a list, so every value travels
// behind a '=' of its own, which Plain removes.
class OwnParser {
 public:
  explicit OwnParser(Options* options) : options_(*options) {
    app_.set_help_flag();
    app_.formatter(std::make_shared<HelpFormatter>());
    app_.footer(
        "Options stand before the program; each wins over its variable, as --cache-mode\n"
        "over PYLAUNCH_CACHE_MODE. Python's own options and their help: pylaunch -h");
    AddValue("--preload", &preload_)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    AddValue("--python", &options_.python);
    AddValue("--cache", &options_.cache);
    AddValue("--cache-mode", &cache_mode_)
        ->check(CLI::IsMember(std::vector<std::string>(kCacheModes.begin(), kCacheModes.end())));
    AddSwitch("--image", &options_.image);
    AddSwitch("--image-build", &options_.image_build);
    AddValue("--image-allow", &image_allow_);
    AddValue("--cache-size", &cache_size_);
    AddValue("--record", &options_.record);
    AddValue("--report", &options_.report);
    AddValue("--exit", &exit_)->check(CLI::IsMember(std::vector<std::string>{"full", "fast"}));
    AddSwitch("--explain", &options_.explain);
    AddSwitch("--build", &options_.build);
    AddValue("--export", &options_.export_to);
    AddValue("--import", &options_.import_from);
    AddSwitch("--stats", &options_.stats)->option_text("| --verify");
    AddSwitch("--verify", &options_.verify)->group("");  // Shown with --stats.
    AddSwitch("--prune", &options_.prune);
    AddSwitch("--doctor", &options_.doctor);
    AddSwitch("--json", &options_.json);
    AddSwitch("--help", &options_.help)->option_text("| --version");
    AddSwitch("--version", &options_.version)->group("");  // Shown with --help.
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
    image_allow_.clear();
    exit_.clear();
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
    if (!exit_.empty()) options_.fast_exit = exit_ == "fast";
    return absl::OkStatus();
  }

 private:
  template <typename T>
  CLI::Option* AddValue(const char* name, T* value) {
    const auto plain = [](std::string text) { return text.substr(text.find('=') + 1); };
    return app_.add_option(name, *value, FindOwn(name)->help)
        ->option_text(FindOwn(name)->value)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
        ->transform(plain);
  }
  CLI::Option* AddSwitch(const char* name, bool* value) {
    return app_.add_flag(name, *value, FindOwn(name)->help);
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
                              std::string_view twin) {
    if (!twin.empty()) {
      const std::string name = words[0].substr(0, words[0].find('='));
      if (complaint.starts_with(name)) complaint.erase(0, name.size());
      complaint.insert(0, twin);
    }
    return Problem(complaint, "see 'pylaunch --help'");
  }

  Options& options_;
  std::vector<std::string> preload_;
  std::string cache_mode_;
  std::string cache_size_;
  std::string image_allow_;
  std::string exit_;
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
  if (actions.empty()) {
    return options.json ? Problem("option '--json' is for what reports and ends, as --doctor",
                                  "pylaunch --doctor --json")
                        : absl::OkStatus();
  }
  const std::string_view action = actions[0];
  const bool writes = options.build || options.image_build || !options.import_from.empty();
  if (writes && options.cache_mode != CacheMode::kAuto &&
      options.cache_mode != CacheMode::kRefresh) {
    return Problem(
        Cat(action, " writes what --cache-mode ", CacheModeName(options.cache_mode), " does not"),
        Cat(action, " with --cache-mode auto or refresh"));
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

std::string_view CacheModeName(CacheMode mode) { return kCacheModes[static_cast<size_t>(mode)]; }

absl::StatusOr<Options> ParseOptions(const std::vector<std::string>& argv,
                                     const std::vector<std::string>& environment) {
  Options options;
  CommandLine line(argv);
  if (absl::Status status = line.Split(); !status.ok()) return status;
  options.python_argv = std::move(line.python());
  options.program = line.program();
  options.ignore_environment = line.ignore_environment();
  std::vector<TwinValue> twins;
  if (!options.ignore_environment) twins = FindTwins(environment);
  if (line.own().empty() && twins.empty()) return options;  // The usual start: no CLI11.

  OwnParser parser(&options);
  for (const TwinValue& twin : twins) {
    absl::StatusOr<std::vector<std::string>> words = TwinWords(twin);
    if (!words.ok()) return words.status();
    if (words->empty()) continue;
    if (absl::Status status = parser.Parse(*words, twin.option->twin); !status.ok()) return status;
  }
  if (!line.own().empty()) {
    if (absl::Status status = parser.Parse(line.own(), ""); !status.ok()) return status;
  }
  if (absl::Status status = CheckActions(options); !status.ok()) return status;
  if (absl::Status status = CheckReport(options.report); !status.ok()) return status;
  return options;
}

std::string HelpText() {
  Options unused;
  return OwnParser(&unused).Help();
}

}  // namespace pylaunch
