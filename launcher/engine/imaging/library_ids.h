#ifndef PYLAUNCH_LAUNCHER_ENGINE_IMAGING_LIBRARY_IDS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_IMAGING_LIBRARY_IDS_H_

#include <link.h>

#include <cstdint>
#include <vector>

namespace pylaunch::engine {

// dlopen(3) takes a path for a library that is loaded already if its device and inode are that
// one's (glibc, elf/dl-load.c, _dl_map_object_from_fd). An image may be restored where these files
// are in another mount of the overlay, with another device (image/file_state.h, LastingDevice): a
// second path to a library would load it twice. So the loader's record is renewed.
class LibraryIds {
 public:
  // Of the libraries that are loaded and lie in an overlay. No other thread may load any.
  static LibraryIds Now();
  // In a restored process, while it has one thread.
  void Renew() const;

 private:
  // link_map's l_file_id, a struct that no header of glibc's tells (include/link.h, r_file_id).
  struct FileId {
    uint64_t device, inode;
  };
  struct Library {
    const link_map* map;
    FileId* id;
  };
  std::vector<Library> libraries_;
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_IMAGING_LIBRARY_IDS_H_
