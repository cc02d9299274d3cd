#ifndef PYLAUNCH_LAUNCHER_ENGINE_PROCESS_STATE_H_
#define PYLAUNCH_LAUNCHER_ENGINE_PROCESS_STATE_H_

#include <string>
#include <vector>

namespace pylaunch::engine {

// What belongs to a process and not to its memory: a restored process has its starter's, so
// preloading must leave it as it was.
struct ProcessState {
  std::vector<int> descriptors;
  std::string folder;
  std::string limits;
  std::string umask;

  static ProcessState Now();
};

// Why an image of this process would lack something, as one line; empty if it would not.
std::string WhatWasLeft(const ProcessState& before);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_PROCESS_STATE_H_
