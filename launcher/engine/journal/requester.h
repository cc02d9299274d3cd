#ifndef PYLAUNCH_LAUNCHER_ENGINE_JOURNAL_REQUESTER_H_
#define PYLAUNCH_LAUNCHER_ENGINE_JOURNAL_REQUESTER_H_

#include <Python.h>

#include <string>

namespace pylaunch::engine {

// Who asked for an import, as the Python frames of this thread tell.
struct Requester {
  std::string file;      // co_filename; empty: no Python frame (the interpreter itself, or C code).
  std::string function;  // co_name
  int line = 0;
  bool own = false;  // In one of the program's own files.
  // The lazy symbol behind it: `symbol_module.symbol` was asked for, and the module looked it up in
  // a `__getattr__` of its own (PEP 562) or of its class. Empty: none.
  std::string symbol_module;
  std::string symbol;
};

// Where the program's own files are: the script's folder (or the working directory, for -c and -m),
// less what is installed below it.
void SetOwnFolder(const std::string& folder);

// True for the path of a source file of the program's own.
bool IsOwnFile(const std::string& path);

// True if this thread's Python is at an instruction that takes a name's value: an import that
// happens then was left pending by a lazy import (PEP 810, from CPython 3.15 on).
bool IsLookedAt();

// Frames of importlib are looked through. With several lazy symbols one inside the other, the
// outermost counts, up to the first frame of the program's own. Clears any exception it causes;
// none may be set.
Requester FindRequester();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_JOURNAL_REQUESTER_H_
