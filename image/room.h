#ifndef PYLAUNCH_IMAGE_ROOM_H_
#define PYLAUNCH_IMAGE_ROOM_H_

#include <cstdint>
#include <string>

// Whether there is room for making an image of this process: in the memory that it may use, and on
// the disk. Where memory is limited the kernel kills whoever has most of it, which may be the
// program; so this is asked before anything is done.

namespace pylaunch::image {

// How much more memory there is for this process, in bytes: the least of what limits it.
struct MemoryRoom {
  uint64_t bytes = UINT64_MAX;
  std::string limit;  // Which that is: "/sys/fs/cgroup/jobs/7/memory.max".
};
// By the control groups of this process, its own and those above, of version 1 or 2 (cgroups(7)),
// and by what the machine has (MemAvailable, proc(5)). What a group keeps of files and has not used
// of late counts as free, as the kernel takes that back first. `root`: where /proc and /sys are,
// for tests.
MemoryRoom MemoryLeft(const std::string& root = "");

// What an image takes of a process that has `own` bytes of memory which are its own.
struct RoomNeeded {
  // While it is written: at worst the program writes to all of its pages meanwhile, of which there
  // are two then; and the capturing process changes a tenth of them. With the image itself, if
  // `folder` lies in memory (tmpfs).
  uint64_t memory;
  uint64_t disk;  // Twice the image: somebody else wants to write, too.
};
RoomNeeded NeededFor(uint64_t own, bool in_memory);

struct Room {
  // Why there is none, in words that begin with image_files.h's kNoRoom; empty: there is.
  std::string why_not;
  // There is, but not for what the kernel keeps of a file that is being written: it is to be
  // written out and let go of at once.
  bool tight = false;
};
// For an image of this process in `folder`, which is there.
Room RoomFor(const std::string& folder, const std::string& root = "");

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_ROOM_H_
