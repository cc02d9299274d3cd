#include "launcher/engine/base/report.h"

#include <unistd.h>

namespace pylaunch::engine {
namespace {

void Write(const std::string& text) {
  // Nobody to tell when stderr itself is gone.
  [[maybe_unused]] ssize_t n = write(STDERR_FILENO, text.data(), text.size());
}

}  // namespace

void Explain(const std::string& what) { Write("pylaunch: explain: " + what + "\n"); }

void Warning(const std::string& what) { Write("pylaunch: warning: " + what + "\n"); }

void ErrorReport(const std::string& what, const std::string& cause, const std::string& hint) {
  std::string text = "pylaunch: error: " + what + "\n";
  if (!cause.empty()) text += "  cause: " + cause + "\n";
  if (!hint.empty()) text += "  hint:  " + hint + "\n";
  Write(text);
}

}  // namespace pylaunch::engine
