#ifndef PYLAUNCH_LAUNCHER_ENGINE_EXIT_EXIT_SURVIVORS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_EXIT_EXIT_SURVIVORS_H_

#include <set>
#include <string>
#include <unordered_set>
#include <vector>

#include "launcher/engine/exit/exit_state.h"

// Objects of the program that are still alive although CPython has collected all its garbage:
// something preloaded holds them (exit.cc tells when). Had that been garbage too, they would have
// gone with it, or later, or never; only CPython itself can tell.

namespace pylaunch::engine {

struct Survivors {
  // The types of those because of which CPython must take everything apart, in words.
  std::set<std::string> noticed;
  // Likewise, unless these objects of extensions' types go when the program's modules are wiped:
  // their end may be noticed, but nothing of Python's runs there.
  std::set<std::string> unread;
  std::vector<PyObject*> finalizable;  // IsOursToFinalise()
  std::vector<PyObject*> weakly_referenced;
  std::unordered_set<PyObject*> globals;  // Of functions.
};

Survivors FindSurvivors();

// What CPython would have done with everything in sight: another collection, then what is still
// alive is wiped. `types`: the survivors' because of which it is done.
void TakeAllApart(const std::set<std::string>& types);

// What it would have done with these alone.
void LetGo(const Survivors& survivors);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_EXIT_EXIT_SURVIVORS_H_
