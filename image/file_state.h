#ifndef PYLAUNCH_IMAGE_FILE_STATE_H_
#define PYLAUNCH_IMAGE_FILE_STATE_H_

#include <sys/stat.h>

#include <string>

#include "cache/stat_proof.h"

namespace pylaunch::image {

// What proves that a file is the same and unchanged; all 0 if there is none. An image holds for one
// boot of one host, so that all of stat's proof counts, but for the device of what lies in an
// overlay (LastingDevice); `rights` where it says nothing of them.
struct FileState : cache::StatProof {
  cache::Rights rights;
  bool operator==(const FileState&) const = default;
};
// `device`, or 0 if it is that of an overlay: each mount of one has another number, so that two
// containers of one container image would differ in nothing else. Overlays have inodes and ctimes
// of the file systems below. Those that were mounted when this process first asked count
// (/proc/self/mountinfo, proc(5)); of files of layers on several disks, whose devices stand
// nowhere, the device is kept. Any thread.
uint64_t LastingDevice(uint64_t device);
// Without rights, whose change sets ctime.
FileState StateOf(const struct stat& st);
// True if nothing but the time of change differs, as after a chmod(1).
bool DifferInCtimeAlone(const FileState& a, FileState b);
FileState StateOf(const std::string& path);

// The same of what may be asked about without being read. Of a folder: its rights alone, since
// names that come and go change the rest all the time, and one that was removed and made anew is as
// good. Of a device, a socket or a pipe: which device, and its rights, since whoever uses it
// changes the rest. All else is as StateOf has it.
FileState AskedOf(const struct stat& st);
// `link`: of the path itself where it is a symbolic link (lstat(2)), so that its text is proved,
// and not what it leads to.
FileState AskedOf(const std::string& path, bool link);
// As a fact's value.
std::string Text(const FileState& state);

struct FileProof {
  std::string path;
  FileState state;  // AskedOf
  bool link = false;
};

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_FILE_STATE_H_
