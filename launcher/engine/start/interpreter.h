#ifndef PYLAUNCH_LAUNCHER_ENGINE_START_INTERPRETER_H_
#define PYLAUNCH_LAUNCHER_ENGINE_START_INTERPRETER_H_

#include <functional>
#include <optional>
#include <string>

namespace pylaunch::engine {

// What the started interpreter will run, as far as preloading must know. A command is the program's
// text: it is wiped, for images must not hold it.
struct Program {
  Program() = default;
  Program(const Program&) = default;
  Program(Program&&) = default;
  ~Program() { WipeCommand(); }
  void WipeCommand();
  std::string command;     // -c; empty: none.
  std::string module;      // -m; empty: none.
  std::string filename;    // Absolute path of a script, folder or zip file; empty: none.
  bool safe_path = false;  // No script folder or cwd in front of sys.path.
  int optimize = 0;
  bool verbose = false;
};

// Starts CPython as its own main() does (Modules/main.c, pymain_init), with `program_name` deciding
// where it finds itself. `on_path` is called as soon as sys.path and PathFinder exist and before
// the first module is imported from sys.path (`encodings`; then `site` and .pth files). Returns an
// exit code if there is nothing to run (-V, -h, a bad option); exits as stock does on a fatal
// error.
std::optional<int> StartInterpreter(int argc, char** argv, const std::string& program_name,
                                    const std::function<void(const Program&)>& on_path);

// After StartInterpreter.
Program CurrentProgram();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_START_INTERPRETER_H_
