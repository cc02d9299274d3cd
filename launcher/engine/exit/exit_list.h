#ifndef PYLAUNCH_LAUNCHER_ENGINE_EXIT_EXIT_LIST_H_
#define PYLAUNCH_LAUNCHER_ENGINE_EXIT_EXIT_LIST_H_

#include <cstddef>
#include <functional>

namespace pylaunch::engine {

// The C library's list of what exit(3) runs, which no call tells: a chain of blocks, newest first
// (struct exit_function_list in glibc's stdlib/exit.h, the same since 2.3; the address of its head
// stands in the code of exit()). By it we know of functions that were registered past our
// __cxa_atexit and on_exit: by libraries opened with RTLD_DEEPBIND, or through dlsym(3) on the C
// library's own handle. It is only read. REQUIRES that no other thread registers anything.
class ExitList {
 public:
  // Whether a function with this argument is expected.
  using IsKnown = std::function<bool(const void* argument)>;

  // What the list holds now is left out from here on. False: it is not where we look for it.
  bool Note();
  // True if every function registered since Note() was called and not yet run is one of
  // __cxa_atexit's with a known argument. Looks at those only.
  bool HasOnly(const IsKnown& is_known) const;
  // True if the last function registered has this argument: by which the list is known.
  bool EndsWith(const void* argument) const;

 private:
  struct Block;
  const Block* const* head_ = nullptr;
  const Block* block_ = nullptr;  // The newest one when noted,
  size_t count_ = 0;              // and how many functions were in it.
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_EXIT_EXIT_LIST_H_
