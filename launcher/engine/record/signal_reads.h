#ifndef PYLAUNCH_LAUNCHER_ENGINE_RECORD_SIGNAL_READS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_RECORD_SIGNAL_READS_H_

#include <signal.h>

// A process inherits which signals it ignores: SIGINT and SIGQUIT of a script's background job,
// SIGHUP under nohup. CPython looks at all of them when it starts. What it makes of each is known
// (Modules/signalmodule.c), so that a process restored from an image can catch up on it. Whether a
// signal was ignored is a fact of an image (handoff.h, IgnoredFact) only if preloading asked for
// that signal, or changed what is done about it.

namespace pylaunch::engine {

// Those that this process ignores now.
sigset_t IgnoredSignals();

// Before Python starts.
void NoteSignalsAtStart();
// Once CPython has looked at them all and nothing else has run; later calls do nothing. REQUIRES:
// the GIL.
void StartSignalReads();
// Ends it, and notes the facts asked for as questions of the start (file_record.h). What has become
// otherwise where nobody saw it counts as asked. REQUIRES: the GIL.
void StopSignalReads();

// In a restored process, which has `now` from its starter, where the process that its image was
// made of had `then`: true if that makes a difference to what is done about `number`.
bool IsIgnoredOtherwise(int number, const sigset_t& then, const sigset_t& now);
// Does about these signals what CPython would have done at its start. False with an exception set.
// REQUIRES: the GIL; that the kernel has them as they were inherited.
bool CatchUpOnSignals(const sigset_t& then, const sigset_t& now);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_RECORD_SIGNAL_READS_H_
