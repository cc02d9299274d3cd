#ifndef PYLAUNCH_IMAGE_ORDER_H_
#define PYLAUNCH_IMAGE_ORDER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "image/baseline.h"
#include "image/key.h"
#include "image/late.h"

namespace pylaunch::image {

// What an image of the preloaded process is to be made from and for (image/key.h).
struct ImageOrder {
  std::string folder;                // Of images; empty: no image is wanted.
  Facts command;                     // Which images belong together.
  Facts facts;                       // All that must be equal, but the environment.
  Facts environment;                 // All of it; what preloading reads of it must be equal.
  Facts askable;                     // What must be equal if preloading asks for it.
  LateEntries late;                  // What it is to be made without.
  std::vector<std::string> allowed;  // Secret variables whose values it may hold.
  std::string hooks;                 // Folder of resume.py.
  bool shared = false;               // It is for other users, too.
  CpuLevel cpu = CpuLevel::kOwn;     // Which processors it is for.
  uint64_t stack_limit = 0;          // The soft RLIMIT_STACK, which the front end has lifted.
  int64_t started_ns = 0;            // CLOCK_REALTIME before anything was read.
};

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_ORDER_H_
