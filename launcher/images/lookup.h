#ifndef PYLAUNCH_LAUNCHER_IMAGES_LOOKUP_H_
#define PYLAUNCH_LAUNCHER_IMAGES_LOOKUP_H_

#include <string>

#include "launcher/command_line/options.h"
#include "launcher/contract/handoff.h"

namespace pylaunch {

// What an image is looked up by.
struct ImageQuery {
  const Options& options;
  const PreloadPlan& plan;
  std::string python;
  std::string engine;
  std::string restorer;
  std::string hooks;   // Folder of resume.py.
  std::string folder;  // Of images; empty: the cache is off.
  bool explain = false;
};

struct ImageAnswer {
  // Of an image that every check allows, to be kept across execve; or -1.
  int fd = -1;
  // The inodes of the files that it maps, for the restorer (image/handoff_variable.h).
  std::string inodes;
  bool moved = false;  // KeyHead::moved
  // For one line of --explain: which image it is, or why there is none.
  std::string why;
  // For a second one; or empty.
  std::string note;
  // What the engine must know to make one; its folder is empty if there can be none.
  image::ImageOrder order;
};

// Looks for the image of this command in this environment and checks its key.
ImageAnswer FindImage(const ImageQuery& query, char** environment);

// Lifts the soft limit of the stack: the kernel then places everything that is mapped far below
// where it puts stack, vdso and libraries of ordinary processes (arch/x86/mm/mmap.c, mmap_base), so
// that the image finds its addresses free. False: the hard limit forbids it.
bool MakeRoom();

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_IMAGES_LOOKUP_H_
