#ifndef PYLAUNCH_LAUNCHER_ENGINE_SHIELD_SHIELD_REPORT_H_
#define PYLAUNCH_LAUNCHER_ENGINE_SHIELD_SHIELD_REPORT_H_

#include <Python.h>

#include "launcher/engine/shield/import_lock.h"

namespace pylaunch::engine {

// What --explain says of the import shield: what it did that stock would not have done, and what
// stock might have come to. One line each, at most kMaxShieldLines a process; nothing unless turned
// on. All keep an exception that is set.
constexpr int kMaxShieldLines = 100;

void ReportShield(bool on);

// `name` was not there yet and is now this thread's to import, or `there` meanwhile. Told only
// where the imports had to do with each other: that, or one package.
void ReportTurn(PyObject* name, const WaitStory& story, bool there);
// `name` was half-built when this thread asked for it.
void ReportAwaited(PyObject* name, const WaitStory& story);
// `name` is imported again, since the import that this thread waited for failed.
void ReportRetry(PyObject* name);
// `attribute` of an object that `name` no longer is was found in the one that it is.
void ReportForward(PyObject* name, PyObject* attribute);
// A fork that waited for the imports of other threads.
void ReportFork(const WaitStory& story);
// In a forked child: `name` was being imported by a thread that the child lacks.
void ReportAbandoned(PyObject* name, bool kept);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_SHIELD_SHIELD_REPORT_H_
