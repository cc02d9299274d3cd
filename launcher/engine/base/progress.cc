#include "launcher/engine/base/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

namespace pylaunch::engine {
namespace {

constexpr size_t kWidest = 40, kNarrowest = 10, kFrame = 12;  // "pylaunch: []"

void Write(const std::string& text) {
  if (write(STDERR_FILENO, text.data(), text.size()) < 0) return;  // A terminal that is gone.
}

bool IsTerminal() {
  const char* term = std::getenv("TERM");
  return isatty(STDERR_FILENO) == 1 && (term == nullptr || std::string_view(term) != "dumb");
}

size_t Columns() {
  winsize size;
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col != 0;
  return known ? size.ws_col : 80;
}

}  // namespace

Progress::Progress(bool on) : on_(on && IsTerminal()) {}

void Progress::Show(uint64_t done, uint64_t total, const std::string& what) {
  if (!on_ || total == 0) return;
  const size_t columns = Columns();
  const size_t taken = what.size() + 1 + kFrame;
  const size_t room = columns > taken ? columns - taken - 1 : 0;
  const size_t width = std::clamp(room, kNarrowest, kWidest);
  const size_t full = std::min<uint64_t>(width, width * done / total);
  Write("\rpylaunch: [" + std::string(full, '#') + std::string(width - full, '.') + "] " + what +
        "\x1b[K");
  shown_ = true;
}

void Progress::Clear() {
  if (shown_) Write("\r\x1b[K");
  shown_ = false;
}

}  // namespace pylaunch::engine
