#ifndef PYLAUNCH_LAUNCHER_ENGINE_IMAGING_EXECUTABLE_RANGES_H_
#define PYLAUNCH_LAUNCHER_ENGINE_IMAGING_EXECUTABLE_RANGES_H_

#include <link.h>

#include <cstdint>
#include <vector>

namespace pylaunch::engine {

struct ExecutableRange {
  uint8_t* begin;
  uint8_t* end;
  int protection;  // PROT_*, of the segment that it lies in.
};

// Where a loaded object has code: its executable sections, as its file says, since linkers may put
// constants into the same segment; or where the file does not say, its executable segments.
std::vector<ExecutableRange> ExecutableRanges(const dl_phdr_info& object);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_IMAGING_EXECUTABLE_RANGES_H_
