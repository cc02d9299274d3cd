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
  // Objects of extensions' types of which nobody knows whether their end is noticed. Nothing of
  // Python's runs there, so it may come after the wiping of the program's modules.
  std::vector<PyObject*> unread;
  std::vector<PyObject*> finalizable;  // IsOursToFinalise()
  std::vector<PyObject*> weakly_referenced;
  std::unordered_set<PyObject*> globals;  // Of functions.
};

Survivors FindSurvivors();
// Judges the unread ones of `survivors`. REQUIRES: the program's modules have been wiped.
void JudgeUnread(Survivors* survivors);

// What CPython would have done with everything in sight: another collection, then what is still
// alive is wiped. `types`: the survivors' because of which it is done.
void TakeAllApart(const std::set<std::string>& types);

// What it would have done with these alone.
void LetGo(const Survivors& survivors);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_EXIT_EXIT_SURVIVORS_H_
