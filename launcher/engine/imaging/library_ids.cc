#include "launcher/engine/imaging/library_ids.h"

#include <dlfcn.h>
#include <sys/stat.h>

#include "image/file_state.h"

namespace pylaunch::engine {

LibraryIds LibraryIds::Now() {
  // The private part of a link_map is at least this large (1,144 bytes in 2.31 to 2.36; what
  // follows it is its name).
  constexpr size_t kWords = 1120 / sizeof(uint64_t);
  LibraryIds ids;
  void* program = dlopen(nullptr, RTLD_LAZY | RTLD_NOLOAD);
  for (auto* map = static_cast<link_map*>(program); map != nullptr; map = map->l_next) {
    struct stat st;
    if (map->l_name[0] != '/' || stat(map->l_name, &st) != 0) continue;
    if (image::LastingDevice(st.st_dev) != 0) continue;
    auto* words = reinterpret_cast<uint64_t*>(map);
    for (size_t i = sizeof(link_map) / sizeof(uint64_t); i + 1 < kWords; ++i) {
      if (words[i] != st.st_dev || words[i + 1] != st.st_ino) continue;
      ids.libraries_.push_back({map, reinterpret_cast<FileId*>(words + i)});
      break;
    }
  }
  if (program != nullptr) dlclose(program);
  return ids;
}

void LibraryIds::Renew() const {
  for (const Library& library : libraries_) {
    struct stat st;
    if (stat(library.map->l_name, &st) != 0 || st.st_ino != library.id->inode) continue;
    if (st.st_dev != library.id->device) library.id->device = st.st_dev;
  }
}

}  // namespace pylaunch::engine
