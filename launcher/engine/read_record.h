#ifndef PYLAUNCH_LAUNCHER_ENGINE_READ_RECORD_H_
#define PYLAUNCH_LAUNCHER_ENGINE_READ_RECORD_H_

#include <set>
#include <string>

namespace pylaunch::engine {

// What this process asked the file system while it was recorded, in absolute paths; Python code and
// C code alike (file_calls.h says what is not seen). Left out: bytecode, which its source proves,
// what the kernel makes up (/proc, /sys, /dev), and what is only written.
struct ReadRecord {
  std::set<std::string> files;    // Opened or looked at, there or not.
  std::set<std::string> folders;  // Listed.
  std::string unknown;            // A call that could not be followed, in words; empty: none.
};

void StartReadRecord();
// What was recorded since.
ReadRecord StopReadRecord();

// While one lives, nothing that this thread asks is recorded.
class ReadRecordPause {
 public:
  ReadRecordPause();
  ~ReadRecordPause();
  ReadRecordPause(const ReadRecordPause&) = delete;
  ReadRecordPause& operator=(const ReadRecordPause&) = delete;
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_READ_RECORD_H_
