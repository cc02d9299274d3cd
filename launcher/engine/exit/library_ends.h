#ifndef PYLAUNCH_LAUNCHER_ENGINE_EXIT_LIBRARY_ENDS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_EXIT_LIBRARY_ENDS_H_

#include <link.h>

#include <vector>

#include "launcher/engine/base/known_list.h"

namespace pylaunch::engine {

// What the dynamic loader runs of each library at the very end of a process (_dl_fini in glibc's
// elf/dl-fini.c): DT_FINI_ARRAY from its end, then DT_FINI. Nearly all have only what the compiler
// puts there, GCC's __do_global_dtors_aux and an empty _fini, which do nothing that exit(3) has not
// done by then; but they are asked one by one, which in a process restored from an image touches
// three pages of each.
class LibraryEnds {
 public:
  // Of the libraries that are loaded now. `quiet`: libraries whose functions need not run;
  // `separate`: whose functions concern that library only, so that any order will do.
  void Note(KnownList* quiet, KnownList* separate);
  // True if a library that was loaded after Note(), without it any library, lies in a folder of
  // one of these names.
  bool IsAnyIn(const KnownList& folders) const;
  // Now, with the libraries loaded since: true if Run() does all that the dynamic loader would do
  // and anybody could notice.
  bool AreKnown() const;
  void Run() const;

 private:
  using Function = void (*)();
  bool known_ = false;
  std::vector<Function> functions_;
  const link_map* last_ = nullptr;  // Of those noted; the loader appends new ones.
  size_t unloaded_ = 0;             // dl_phdr_info::dlpi_subs
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_EXIT_LIBRARY_ENDS_H_
