#include "launcher/command_line/command_words.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <utility>

#include "launcher/contract/python_options.h"
#include "launcher/contract/text.h"

namespace pylaunch {
namespace {

// CPython 3.11's long options; Python judges what stands behind them.
constexpr std::string_view kHashPycs = "--check-hash-based-pycs";
constexpr std::string_view kPythonLongOptions[] = {kHashPycs, "--help-all", "--help-env",
                                                   "--help-xoptions"};

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
absl::Status Misspelt(std::string_view name, std::span<const OwnOption> own) {
  constexpr size_t kFar = 4, kLongestName = 64;
  std::string_view nearest;
  size_t best = kFar;
  const auto consider = [&](std::string_view known) {
    const size_t distance = EditDistance(name, known);
    if (distance < best) best = distance, nearest = known;
  };
  if (name.size() < kLongestName) {
    for (const OwnOption& option : own) consider(option.name);
    for (std::string_view known : kPythonLongOptions) consider(known);
  }
  if (nearest.empty()) return absl::OkStatus();
  return Problem(Cat("unknown option '", name, "'"),
                 Cat("did you mean '", nearest, "'? See 'pylaunch --help'"));
}

class CommandLine {
 public:
  CommandLine(const std::vector<std::string>& argv, std::span<const OwnOption> options)
      : argv_(argv), options_(options) {}

  absl::Status Split() {
    if (argv_.empty()) return absl::OkStatus();
    PassOn();  // argv[0]
    while (next_ < argv_.size()) {
      const std::string_view word = argv_[next_];
      if (word.size() < 2 || word[0] != '-' || word == "--") break;
      if (word[1] != '-') {
        if (!ShortOptions(word.substr(1))) {
          words_.program = words_.python.size() - 1;
          break;
        }
      } else if (absl::Status status = LongOption(word); !status.ok()) {
        return status;
      }
    }
    if (words_.program == 0) words_.program = words_.python.size();
    while (next_ < argv_.size()) PassOn();
    return absl::OkStatus();
  }

  CommandWords Take() { return std::move(words_); }

 private:
  void PassOn() { words_.python.push_back(argv_[next_++]); }
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
          words_.ignore_environment = true;
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
    const OwnOption* own = FindOwn(options_, name);
    if (own != nullptr) return Own(*own, word, equals);
    PassOn();
    if (word == kHashPycs) PassOnValue();
    return IsPythonLong(name) ? absl::OkStatus() : Misspelt(name, options_);
  }

  absl::Status Own(const OwnOption& option, std::string_view word, size_t equals) {
    ++next_;
    const bool attached = equals != word.npos;
    if (option.value == nullptr) {
      if (attached) {
        return Problem(Cat("option '", option.name, "' takes no value"),
                       Cat("write '", option.name, "' alone"));
      }
      words_.own.emplace_back(word);
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
    words_.own.push_back(Cat(option.name, "=", value));
    return absl::OkStatus();
  }

  const std::vector<std::string>& argv_;
  const std::span<const OwnOption> options_;
  size_t next_ = 0;
  CommandWords words_;
};

}  // namespace

const OwnOption* FindOwn(std::span<const OwnOption> options, std::string_view name) {
  for (const OwnOption& option : options) {
    if (name == option.name) return &option;
  }
  return nullptr;
}

absl::StatusOr<CommandWords> PartWords(const std::vector<std::string>& argv,
                                       std::span<const OwnOption> options) {
  CommandLine line(argv, options);
  if (absl::Status status = line.Split(); !status.ok()) return status;
  return line.Take();
}

absl::Status Problem(std::string_view what, std::string_view hint) {
  return absl::InvalidArgumentError(Cat(what, "\n  hint:  ", hint));
}

}  // namespace pylaunch
