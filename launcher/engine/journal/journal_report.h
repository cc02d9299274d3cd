#ifndef PYLAUNCH_LAUNCHER_ENGINE_JOURNAL_JOURNAL_REPORT_H_
#define PYLAUNCH_LAUNCHER_ENGINE_JOURNAL_JOURNAL_REPORT_H_

#include <cstdint>

#include "launcher/contract/handoff.h"
#include "launcher/engine/start/interpreter.h"

namespace pylaunch::engine {

// Starts the journal if --record, --report or --explain wants one, and sees to it that it is told
// when the program has ended: as the last function that `atexit` calls, which is after threads were
// joined and before anything is taken apart, for every way to end but os._exit(), execve and
// signals that kill. Forked children tell nothing. REQUIRES: builtin modules can be imported; no
// module has been imported from sys.path.
void SetUpJournal(const Handoff& handoff, const Program& program, int64_t started_ns);

// Likewise in a process restored from an image, for --explain alone: nothing is recorded with an
// image. What the image's maker counted is forgotten.
void ResumeJournal(const Handoff& handoff);

// The program begins now.
void JournalProgram();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_JOURNAL_JOURNAL_REPORT_H_
