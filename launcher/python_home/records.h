#ifndef PYLAUNCH_LAUNCHER_PYTHON_HOME_RECORDS_H_
#define PYLAUNCH_LAUNCHER_PYTHON_HOME_RECORDS_H_

#include <optional>
#include <string>
#include <vector>

#include "launcher/python_home/files.h"

namespace pylaunch::home {

// What candidates have answered, kept in files of ours: `<cache_folder>/pythons/<digest>.json`.

// One answer of a candidate, as kept.
struct Known {
  std::string inputs;  // Digest of what a shim's answer depends on; empty for a real executable.
  std::string executable;
  Stamp executable_stamp;
  std::string version, implementation;
  bool free_threaded = false;
};

struct Record {
  std::string candidate;
  Stamp candidate_stamp;
  std::vector<Known> answers;  // Newest first.
};

// Bounds a record: one answer a project for a shim.
inline constexpr size_t kMaxAnswers = 16;

// nullopt: none, or none that can be believed: another user's, or one that others may write.
std::optional<Record> LoadRecord(const std::string& path);

// By rename, mode 0600, with the folders above it. Best effort: a record that is not there costs
// one more question.
void SaveRecord(const std::string& path, const Record& record);

}  // namespace pylaunch::home

#endif  // PYLAUNCH_LAUNCHER_PYTHON_HOME_RECORDS_H_
