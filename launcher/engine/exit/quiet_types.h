#ifndef PYLAUNCH_LAUNCHER_ENGINE_EXIT_QUIET_TYPES_H_
#define PYLAUNCH_LAUNCHER_ENGINE_EXIT_QUIET_TYPES_H_

#include <Python.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "launcher/engine/base/known_list.h"

namespace pylaunch::engine {

// The file of the library that an address lies in; empty: in none.
std::string CodeFile(const void* address);

// Tells the types whose objects only give back memory and references when they are freed: those of
// the interpreter's own library and of those for which launcher/python/resume/quiet_types.txt
// vouches, and classes made from these. One of another extension may close or write something then
// (sqlite3.Connection), with no finalizer to tell it by.
class QuietTypes {
 public:
  QuietTypes();
  // Remembers what it found until Forget(); a type must not change or be freed in between.
  bool Contain(PyTypeObject* type);
  void Forget() { known_.fill({}); }
  // True for a function of one of those libraries.
  bool ContainCode(const void* function);
  const KnownList& list() const { return libraries_; }
  // Asks of all libraries that are loaded now, so that for these nothing is read any more.
  void ProveLoaded() { libraries_.ProveLoaded(); }

 private:
  bool IsQuiet(PyTypeObject* type);
  // True if its library is the interpreter's, or one vouched for as to `type`; empty: as to all.
  bool IsListed(const void* function, std::string_view type);
  bool IsCythons(std::string_view name) const;

  struct Known {
    PyTypeObject* type = nullptr;
    bool quiet = false;
  };
  // By address; the newer one takes the place.
  std::array<Known, 1024> known_;
  KnownList libraries_;
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_EXIT_QUIET_TYPES_H_
