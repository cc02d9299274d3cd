#ifndef PYLAUNCH_LAUNCHER_PYTHON_HOME_PYTHON_HOME_H_
#define PYLAUNCH_LAUNCHER_PYTHON_HOME_PYTHON_HOME_H_

#include <chrono>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace pylaunch {

// Which Python to run. Looking for it costs a few system calls; what a candidate really is
// (version, free-threaded or not, the executable behind a pyenv shim or wrapper script) is asked of
// it once, by running it, and remembered in the cache folder.

// What the search depends on besides the file system.
struct HomeQuery {
  // --python or PYLAUNCH_PYTHON: a path, a name on PATH ("python3.12") or a folder (environment
  // prefix).
  std::string requested;
  std::string self;          // Absolute path of the running pylaunch (/proc/self/exe).
  std::string cache_folder;  // Where records are kept; empty: not kept.
  std::function<std::string(const char* name)> getenv;  // Empty string: unset.
  // Whether PythonHome::version must name the patch version too; else the name of CPython's
  // executable ("python3.11") may tell enough, and the candidate need not be asked at all.
  bool exact_version = false;
  // A candidate that has not said what it is by then is killed and is no Python.
  std::chrono::milliseconds probe_timeout{20'000};
};

struct PythonHome {
  std::string candidate;   // What the search found, e.g. ".venv/bin/python" or a shim; absolute.
  std::string executable;  // The ELF file to execve, symlinks not resolved: a venv's bin/python
                           // stays that. Absolute.
  int major = 0;
  int minor = 0;
  std::string version;         // "3.11.7"; "3.11" if nobody was asked
  std::string implementation;  // sys.implementation.name: "cpython", "pypy".
  bool free_threaded = false;
  std::string loader;  // The dynamic loader that `executable` asks for; empty: not known.
  std::string why;  // How it was found, for --explain: "pyvenv.cfg beside pylaunch", "VIRTUAL_ENV",
                    // "PATH", ..., and what was passed over before it.
};

// Searches in order: requested; a pyvenv.cfg in the folder of `self` or the one above it (then
// bin/python of that environment); VIRTUAL_ENV; CONDA_PREFIX; PATH ("python3", then "python"). A
// folder without bin/python may have bin/python3. Passed over: what is `self`, and what does not
// say that it is a Python. An ELF file that names itself as sys.executable is its own executable;
// for anything else (a `#!` script, e.g. a pyenv shim) sys.executable is, or sys._base_executable,
// or what /proc says runs, whichever is an ELF file first.
//
// Records live in `<cache_folder>/pythons/<hash>.json`, written by rename, mode 0600, ignored when
// not ours or group/world writable, and are valid while candidate and executable keep device,
// inode, size and mtime. What a shim answered holds only where its inputs are the same: the working
// directory, PATH, the variables of pyenv and asdf, every .python-version and .tool-versions from
// the working directory upwards and pyenv's and asdf's global ones (contents, absence included); a
// record keeps the last few such answers. A record that cannot be read or written is no error.
//
// The candidate is run with the process's environment less LD_PRELOAD, so not in a signal handler
// nor with other threads about that call setenv.
//
// NOT_FOUND: no Python (the message names what was tried). INVALID_ARGUMENT: `requested` is no
// Python. FAILED_PRECONDITION: this pylaunch was started by a candidate that another one is asking.
// Messages in the house shape without the leading "pylaunch: error: ".
absl::StatusOr<PythonHome> FindPython(const HomeQuery& query);

// The folder of archives and records: `flag` (made absolute), else $XDG_CACHE_HOME/pylaunch if
// absolute, else $HOME/.cache/pylaunch if absolute, without slashes at their ends; empty when none
// of them is known.
std::string CacheFolder(std::string_view flag,
                        const std::function<std::string(const char*)>& getenv);
// Why it is empty, for messages.
std::string WhyNoCacheFolder(const std::function<std::string(const char*)>& getenv);

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_PYTHON_HOME_PYTHON_HOME_H_
