#ifndef PYLAUNCH_LAUNCHER_ENGINE_BASE_PRELOADED_MODULES_H_
#define PYLAUNCH_LAUNCHER_ENGINE_BASE_PRELOADED_MODULES_H_

#include <Python.h>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "image/written_pages.h"

namespace pylaunch::engine {

// The modules that were there before the program, by address only, and whether the program has
// changed them since. With the interpreter's lock held.
class PreloadedModules {
 public:
  // Takes what `modules` (sys.modules) has for preloaded; called again, what has come to its end
  // since. `library`: the standard library's folder, with '/' behind. False: dicts of this CPython
  // do not tell when they were changed last.
  bool Note(PyObject* modules, const std::string& library);
  // Remembers what their dicts hold, so that later it can be told what was changed in them.
  void NoteEntries();
  // The same again for one of them, which something other than the program has changed since.
  void NoteEntriesAgain(PyObject* module);

  bool Contains(PyObject* module) const { return Find(module) != nullptr; }
  // True for a module of an installed library, as against those that the user works on, in which
  // the program has changed nothing but plain values. `written`: where that is known.
  bool IsIntact(PyObject* module, const image::WrittenPages& written) const;

  // True if `modules` has not changed since it was noted.
  bool IsAsNoted(PyObject* modules) const;
  // Goes through `modules` in its order until `visit` gives false, and returns whether it did not.
  // `as_noted`: what IsAsNoted() said, if nothing but additions came after that.
  using Visitor = std::function<bool(PyObject* name, PyObject* module)>;
  bool Visit(PyObject* modules, bool as_noted, const Visitor& visit) const;
  // Shows every address that IsIntact() asks `written` for.
  void VisitAddresses(const std::function<void(const void*)>& visit) const;

 private:
  using Entry = std::pair<PyObject*, PyObject*>;
  struct Module {
    PyObject* module;
    PyObject* names;  // Its dict.
    bool installed;
    // What was in the dict, in its order: in entries_.
    size_t first_entry = 0;
    size_t entries = 0;
  };
  const Module* Find(PyObject* module) const;
  void NoteEntriesOf(Module* module);
  bool HasOnlyPlainChanges(const Module& module) const;

  // By address, and close together: at the end of a restored process all are looked at.
  std::vector<Module> modules_;
  std::vector<Entry> entries_;
  // Dicts that were last changed before the line have a version up to this one.
  uint64_t last_version_ = 0;
  // sys.modules as long as it has that version: PyDict_Next would look at every name.
  std::vector<Entry> noted_;
  uint64_t noted_version_ = 0;
  Py_ssize_t end_ = 0;  // PyDict_Next's position behind them.
};

// The file that a module's names tell, or nothing.
std::string FileOf(PyObject* names);
// True for a file of the standard library or of an installed package.
bool IsInstalledFile(const std::string& library, const std::string& file);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_BASE_PRELOADED_MODULES_H_
