#ifndef PYLAUNCH_LAUNCHER_ENGINE_ENVIRONMENT_ENVIRONMENT_READS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_ENVIRONMENT_ENVIRONMENT_READS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pylaunch::engine {

struct EnvironmentRead {
  std::string name;
  // A hash of what the reader saw; nullopt: it was not set. The value itself may be secret, and
  // what is kept here is in images.
  std::optional<uint64_t> value;
  size_t entry = 0;  // Which of the plan's entries was being loaded.

  // Null: not set.
  bool Saw(const char* now) const;
};

// What is read of the environment while preloading. A read is a look-up of one variable by its
// name, whether it is set or not; who goes through the whole environment (items(), copy(), C's
// `environ`) has read no variable by this count, only noticed: MarkEnumerated().
//
// Any thread may call anything at any time: getenv() is called from threads that CPython knows
// nothing of and in forked children. So reads are only ever added, in lists that need no lock.
class EnvironmentReads {
 public:
  EnvironmentReads() = default;
  ~EnvironmentReads();
  EnvironmentReads(const EnvironmentReads&) = delete;
  EnvironmentReads& operator=(const EnvironmentReads&) = delete;

  // `value` null: not set. Allocates only for what is new: another name, entry or value.
  void Add(std::string_view name, const char* value, size_t entry);
  void MarkEnumerated() { enumerated_.store(true, std::memory_order_relaxed); }

  // The last read of `name`, or null. Valid as long as this object.
  const EnvironmentRead* Last(std::string_view name) const;
  // The entries that have read `name`, each once, ascending.
  std::vector<size_t> Entries(std::string_view name) const;
  // The last read of every variable, by name.
  std::vector<EnvironmentRead> All() const;
  bool enumerated() const { return enumerated_.load(std::memory_order_relaxed); }
  bool empty() const { return !any_.load(std::memory_order_relaxed); }

 private:
  struct Node {
    EnvironmentRead read;
    Node* next;  // An older one.
  };
  using List = std::atomic<Node*>;
  static constexpr size_t kLists = 256;

  static size_t ListOf(std::string_view name);
  static const Node* Find(const Node* from, std::string_view name);

  std::array<List, kLists> lists_ = {};
  std::atomic<bool> enumerated_ = false;
  std::atomic<bool> any_ = false;
};

// The reads of this process's preloading.
EnvironmentReads& PreloadReads();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_ENVIRONMENT_ENVIRONMENT_READS_H_
