#ifndef PYLAUNCH_LAUNCHER_INIT_INIT_PROCESS_H_
#define PYLAUNCH_LAUNCHER_INIT_INIT_PROCESS_H_

#include "launcher/init/signal_set.h"
#include "launcher/init/terminal.h"

namespace pylaunch {

// The process that was started, from the moment when it begins to be an init (init.h). Needs no C
// library: of the usual start it is made before there is one (usual_start.cc).
class InitProcess {
 public:
  // Blocks all signals, and takes the terminal from this process.
  InitProcess();

  bool is_process_1() const { return self_ == 1; }

  // In a child, also one that shares this memory and has not executed anything: gives it what this
  // process was given. Ends it if this process is there no more.
  void BecomeProgram() const;
  // In this process, where there is no child after all: gives it back what it was given.
  void Undo() const;
  // In this process: passes signals on and takes orphans until its child `program` ends. Returns
  // the program's exit code. All descriptors are closed then.
  int Run(long program);

 private:
  struct Action {  // The kernel's struct sigaction.
    uint64_t handler;
    uint64_t flags;
    uint64_t restorer;
    SignalSet mask;
  };

  static void SetAction(int signal, const Action& action, Action* before);
  static SignalSet SetMask(SignalSet mask);
  void PassOn(const void* signal_info);
  // Takes what has ended. True, with the exit code, once that was the program.
  bool Reap(int* code);
  // As the program was, by the terminal's signal.
  void Stop(int signal);

  const long self_;
  const bool leads_;  // Its session.
  // What this process was given.
  const SignalSet mask_;
  Action child_action_;
  const Terminal terminal_;

  long program_ = 0;
  bool resumed_ = false;  // A SIGCONT has reached the program, of which we have not heard yet.
};

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_INIT_INIT_PROCESS_H_
