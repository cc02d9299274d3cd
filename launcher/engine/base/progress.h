#ifndef PYLAUNCH_LAUNCHER_ENGINE_BASE_PROGRESS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_BASE_PROGRESS_H_

#include <cstdint>
#include <string>

namespace pylaunch::engine {

// A bar on stderr, where that is a terminal; for --image-build. Clears itself when it goes.
class Progress {
 public:
  // `on`: it is wanted. No Python, no streams of C: nothing of it stays in the process.
  explicit Progress(bool on);
  ~Progress() { Clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  bool on() const { return on_; }
  // `what` follows the bar: "3/61 entries".
  void Show(uint64_t done, uint64_t total, const std::string& what);
  void Clear();

 private:
  bool on_;
  bool shown_ = false;
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_BASE_PROGRESS_H_
