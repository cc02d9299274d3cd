#ifndef PYLAUNCH_IMAGE_DUMP_H_
#define PYLAUNCH_IMAGE_DUMP_H_

#include <cstdint>
#include <memory_resource>
#include <string>
#include <vector>

#include "image/clock_search.h"
#include "image/format.h"
#include "image/region_map.h"
#include "image/secret_search.h"

namespace pylaunch::image {

// What the caller knows of the process that the kernel does not tell.
struct DumpContext {
  Header header = {};      // Everything but what the regions decide.
  uint64_t stack_end = 0;  // Of the own stack; what is kept of it begins at stack_used.
  uint64_t stack_used = 0;
  uint64_t scratch = 0;  // Address of a region that is left out.
  bool tight = false;    // CaptureRequest's.
  // What no page may hold, else there is no image. Its memory must be the scratch region.
  const SecretSearch* secrets = nullptr;
  // What is looked for, too; likewise.
  ClockSearch* clocks = nullptr;
};

// Writes the process that it runs in to `fd`, an empty file. Changes nothing of what it writes: all
// memory comes from `memory`, which lies in the scratch region. What has been written is mapped
// from there, so that the process lets go of its own pages one by one, and with it of those that
// the program has written to since. `files`: the paths the image refers to. Returns why not, as one
// line, or an empty string.
std::pmr::string Dump(const DumpContext& context, int fd, std::pmr::memory_resource* memory,
                      std::pmr::vector<std::pmr::string>* files);

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_DUMP_H_
