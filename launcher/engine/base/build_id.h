#ifndef PYLAUNCH_LAUNCHER_ENGINE_BASE_BUILD_ID_H_
#define PYLAUNCH_LAUNCHER_ENGINE_BASE_BUILD_ID_H_

#include <link.h>

#include <string_view>

namespace pylaunch::engine {

// The GNU build-id (elf(5), NT_GNU_BUILD_ID) of a loaded object, as bytes in its memory; empty: it
// has none. Makes no allocation. On any thread.
std::string_view BuildId(const dl_phdr_info& object);

// As `file` and lists put it: writes two digits a byte to `out`. Makes no allocation.
void PutHexadecimal(std::string_view bytes, char* out);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_BASE_BUILD_ID_H_
