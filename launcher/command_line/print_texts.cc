// Part of the build, not of what is installed: writes what is generated from the option table.
// Usage: print_texts FOLDER

#include <filesystem>
#include <fstream>
#include <string>

#include "launcher/command_line/completion.h"
#include "launcher/command_line/man_page.h"
#include "launcher/command_line/options.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const auto options = pylaunch::OwnOptions();
  const std::pair<const char*, std::string> files[] = {
      {"man/man1/pylaunch.1", pylaunch::ManPage(PYLAUNCH_VERSION, options)},
      {"bash-completion/completions/pylaunch", pylaunch::CompletionScript("bash", options)},
      {"zsh/site-functions/_pylaunch", pylaunch::CompletionScript("zsh", options)},
      {"fish/vendor_completions.d/pylaunch.fish", pylaunch::CompletionScript("fish", options)},
  };
  for (const auto& [name, text] : files) {
    const std::filesystem::path path = std::filesystem::path(argv[1]) / name;
    std::filesystem::create_directories(path.parent_path());
    if (!(std::ofstream(path) << text).flush()) return 1;
  }
  return 0;
}
