#ifndef PYLAUNCH_LAUNCHER_ENGINE_READ_RECORD_H_
#define PYLAUNCH_LAUNCHER_ENGINE_READ_RECORD_H_

#include <set>
#include <string>

namespace pylaunch::engine {

// What Python code asked the file system while it was recorded, in absolute paths: by open(),
// io.open_code(), os.open(), os.stat(), os.lstat(), os.access(), os.readlink(), os.listdir() and
// os.scandir(). Not what C libraries ask. Left out: bytecode, which its source proves, and what the
// kernel makes up (/proc, /sys, /dev).
struct ReadRecord {
  std::set<std::string> files;    // Opened or looked at, there or not.
  std::set<std::string> folders;  // Listed.
  std::string unknown;            // A call that could not be followed, in words; empty: none.
};

// Puts functions of ours into these functions' method definitions, so that nothing a program can
// hold is another object. Needs the GIL and CPython 3.10 to 3.13, whose definitions it checks;
// false: not those we know, nothing is recorded.
bool StartReadRecord();

// Takes them out again; what was recorded since.
ReadRecord StopReadRecord();

// While one lives, nothing is recorded.
class ReadRecordPause {
 public:
  ReadRecordPause();
  ~ReadRecordPause();
  ReadRecordPause(const ReadRecordPause&) = delete;
  ReadRecordPause& operator=(const ReadRecordPause&) = delete;
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_READ_RECORD_H_
