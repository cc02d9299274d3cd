#include "launcher/init/init.h"

#include <malloc.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "launcher/init/init_process.h"

namespace pylaunch {

InitRole BecomeInit(InitMode mode, bool explain) {
  const pid_t self = getpid();
  if (mode == InitMode::kNever || (mode == InitMode::kAsProcess1 && self != 1)) return {};
  InitProcess init;
  const pid_t program = fork();
  if (program > 0) {
    malloc_trim(0);
    return {init.Run(program), false};
  }
  const int error = errno;
  if (program == 0) {
    init.BecomeProgram();
    if (explain) {
      std::fprintf(stderr, "pylaunch: explain: init: process %d, which runs the program as %d\n",
                   self, getpid());
    }
    return {std::nullopt, init.is_process_1()};
  }
  init.Undo();
  std::fprintf(stderr, "pylaunch: warning: no init: fork: %s\n", std::strerror(error));
  return {};
}

}  // namespace pylaunch
