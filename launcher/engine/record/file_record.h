#ifndef PYLAUNCH_LAUNCHER_ENGINE_RECORD_FILE_RECORD_H_
#define PYLAUNCH_LAUNCHER_ENGINE_RECORD_FILE_RECORD_H_

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "image/file_state.h"
#include "image/key.h"

namespace pylaunch::engine {

// What this process asked the file system, and of its start, while it was recorded; Python code and
// C code alike (file_calls.h and start_calls.h say what is not seen). Left out: bytecode, which its
// source proves, the usual devices, what a process has of its own in /proc, and what is only
// written where that works.
struct ReadRecord {
  // What was so when it was first asked, by what was asked.
  struct Path {
    std::optional<image::FileState> target;   // stat(2), open(2)...
    std::optional<image::FileState> link;     // lstat(2), readlink(2)...
    std::optional<image::FolderNames> names;  // opendir(3)
  };
  std::map<std::string, Path> paths;  // Absolute.
  std::set<std::string> bytecode;     // Opened, and not in `paths`.
  std::set<std::string> made;         // Were not there when this process made them.
  std::set<std::string> relative;     // Of `paths`: asked for from the working directory.
  std::string folder;                 // The working directory at the beginning.
  bool asked_folder = false;          // getcwd(3)
  std::set<std::string> asked;        // Askable facts (handoff.h).
  std::map<std::string, std::string> kernel_files;  // Facts as they were first (kernel_files.h)...
  std::map<std::string, size_t> kernel_calls;       // ...and how often each was asked about.
  std::string unknown;  // A call that could not be followed, in words; empty: none.
};

void StartReadRecord();
// From here on what is asked of the start counts, too: CPython itself has asked. (Not for the host
// name, which counts from StartReadRecord on.)
void RecordQuestionsOfStart();
void NoteQuestionOfStart(const char* fact);
// What was recorded since.
ReadRecord StopReadRecord();

// What was recorded until now that a restored process must do for itself, in words: it has made
// files and folders under names of its own, and they are there ("left /tmp/tmpab12cd"); or it read
// what was for this start alone.
std::vector<std::string> OwnDeeds();

// While one lives, nothing that this thread asks is recorded.
class ReadRecordPause {
 public:
  ReadRecordPause();
  ~ReadRecordPause();
  ReadRecordPause(const ReadRecordPause&) = delete;
  ReadRecordPause& operator=(const ReadRecordPause&) = delete;
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_RECORD_FILE_RECORD_H_
