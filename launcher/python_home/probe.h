#ifndef PYLAUNCH_LAUNCHER_PYTHON_HOME_PROBE_H_
#define PYLAUNCH_LAUNCHER_PYTHON_HOME_PROBE_H_

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace pylaunch::home {

// Set in the environment of a candidate that is run.
inline constexpr char kProbing[] = "PYLAUNCH_PROBING";

// What a candidate says of itself.
struct Answer {
  std::string version, implementation, abi_flags;
  std::vector<std::string> executables;  // Best first; some may be empty.
};

// Runs a candidate once, isolated and without LD_PRELOAD, and kills it, and what it started, when
// it takes too long. Not while other threads call setenv.
//
// nullopt: it is no Python; `cause` says how it showed.
std::optional<Answer> Probe(const std::string& program, std::chrono::milliseconds timeout,
                            std::string* cause);

}  // namespace pylaunch::home

#endif  // PYLAUNCH_LAUNCHER_PYTHON_HOME_PROBE_H_
