#include "launcher/command_line/helpers.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "cache/descriptor.h"
#include "launcher/contract/text.h"

namespace pylaunch {
namespace {

constexpr std::string_view kList =
#include "helpers.inc"
    ;

// What is cut off up to `separator`, which goes too.
std::string_view CutUpTo(char separator, std::string_view* text) {
  const std::string_view part = text->substr(0, text->find(separator));
  text->remove_prefix(std::min(text->size(), part.size() + 1));
  return part;
}

// 'from M import F', followed by anything; M, or empty. Leaves F and what follows.
std::string_view CutImport(std::string_view* line) {
  if (CutUpTo(' ', line) != "from") return "";
  const std::string_view module = CutUpTo(' ', line);
  return CutUpTo(' ', line) == "import" ? module : "";
}

// M if the command is 'from M import F; F(...)' and nothing else.
std::string_view CommandsModule(std::string_view text) {
  const std::string_view module = CutImport(&text);
  const std::string_view function = CutUpTo(';', &text);
  text.remove_prefix(std::min(text.size(), text.find_first_not_of(' ')));
  const bool only_call = text.starts_with(Cat(function, "(")) && text.ends_with(')') &&
                         text.find_first_of(";\n") == text.npos;
  return only_call ? module : "";
}

// M if the script says 'from M import F', calls F and imports nothing else that an installer's
// would not.
std::string_view ScriptsModule(std::string_view text) {
  std::string_view module, function;
  for (std::string_view rest = text; !rest.empty();) {
    std::string_view line = CutUpTo('\n', &rest);
    if (line.starts_with("import ") && line != "import re" && line != "import sys") return "";
    if (!line.starts_with("from ")) continue;
    if (!module.empty()) return "";
    module = CutImport(&line);
    function = line;
  }
  return text.find(Cat(function, "(")) == text.npos ? "" : module;
}

// An installer's script is a quarter of that. Not what reading takes something from, as a pipe.
std::string ReadScript(const std::string& path) {
  constexpr size_t kLongest = 1024;
  struct stat st;
  if (stat(path.c_str(), &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > off_t{kLongest}) {
    return "";
  }
  const cache::Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  char text[kLongest];
  const ssize_t size = file.ok() ? read(file.get(), text, sizeof text) : 0;
  return std::string(text, static_cast<size_t>(std::max<ssize_t>(size, 0)));
}

// What is run, and what with.
class Program {
 public:
  explicit Program(const Options& options) {
    const std::vector<std::string>& argv = options.python_argv;
    size_t at = options.program;
    if (at < argv.size() && argv[at] == "--") {
      ++at;
    } else if (at < argv.size() && argv[at].starts_with('-')) {
      const size_t letter = argv[at].find_first_of("cm");
      if (letter == std::string::npos) return;
      kind_ = argv[at][letter];
      text_ = argv[at].substr(letter + 1);
      ++at;
    }
    if (text_.empty() && at < argv.size()) text_ = argv[at++];
    if (at < argv.size()) arguments_ = std::span(argv).subspan(at);
    if (kind_ == 'c') imported_ = CommandsModule(text_);
    if (kind_ == 'f') {
      path_ = std::exchange(text_, ReadScript(text_));
      imported_ = ScriptsModule(text_);
    }
  }

  // `pattern`: as in helpers.txt, with one star.
  bool IsCommand(std::string_view pattern) const {
    std::string text;
    while (!pattern.empty()) {
      text += CutUpTo('\\', &pattern);
      if (pattern.starts_with('n')) pattern.remove_prefix(1), text += '\n';
    }
    const std::string_view rest = text;
    const size_t star = rest.find('*');
    const std::string_view before = rest.substr(0, star), after = rest.substr(star + 1);
    if (kind_ != 'c' || text_.size() < before.size() + after.size()) return false;
    const size_t size = text_.size() - before.size() - after.size();
    return text_.starts_with(before) && text_.ends_with(after) &&
           text_.substr(before.size(), size).find_first_of("\"'\n") == std::string::npos;
  }
  bool Runs(std::string_view module) const {
    if (kind_ == 'm') return text_ == module || Cat(text_, ".__main__") == module;
    if (imported_ == module) return true;
    std::string file = Cat("/", module, ".py");
    std::replace(file.begin(), file.end() - 3, '.', '/');
    return path_.ends_with(file);
  }
  std::span<const std::string> arguments() const { return arguments_; }

 private:
  char kind_ = 'f';
  std::string text_;           // Of the command or script, or the module's name.
  std::string path_;           // The script's.
  std::string_view imported_;  // Whose function a command or script runs.
  std::span<const std::string> arguments_;
};

bool IsMet(std::string_view condition, std::span<const std::string> arguments) {
  const std::string_view kind = CutUpTo('=', &condition);
  if (kind == "first") return !arguments.empty() && arguments[0] == condition;
  return kind != "without" ||
         std::find(arguments.begin(), arguments.end(), condition) == arguments.end();
}

}  // namespace

std::optional<Helper> FindHelper(const Options& options) {
  const Program program(options);
  for (std::string_view list = kList; !list.empty();) {
    std::string_view line = CutUpTo('\n', &list);
    const std::string_view module = CutUpTo(' ', &line);
    if (module == "-c") {
      if (program.IsCommand(line)) return Helper{"this command"};
      continue;
    }
    if (module.empty() || !program.Runs(module)) continue;
    Helper helper{std::string(module)};
    bool met = true;
    while (!line.empty()) {
      const std::string_view field = CutUpTo(' ', &line);
      met = met && IsMet(field, program.arguments());
      helper.imports = helper.imports || field == "imports";
    }
    if (met) return helper;
  }
  return std::nullopt;
}

}  // namespace pylaunch
