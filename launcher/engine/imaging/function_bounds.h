#ifndef PYLAUNCH_LAUNCHER_ENGINE_IMAGING_FUNCTION_BOUNDS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_IMAGING_FUNCTION_BOUNDS_H_

#include <link.h>

#include <cstdint>
#include <optional>

namespace pylaunch::engine {

struct FunctionBounds {
  const uint8_t* begin;
  const uint8_t* end;
};

// The function of a loaded object that `at` lies in, or a part of one that the compiler has put
// elsewhere, by the tables that exceptions are thrown with: .eh_frame_hdr, .eh_frame (Linux
// Standard Base, Core, 10.6 and 10.6.2). Nothing: none is known to be there.
std::optional<FunctionBounds> FunctionAt(const dl_phdr_info& object, const uint8_t* at);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_IMAGING_FUNCTION_BOUNDS_H_
