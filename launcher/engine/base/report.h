#ifndef PYLAUNCH_LAUNCHER_ENGINE_BASE_REPORT_H_
#define PYLAUNCH_LAUNCHER_ENGINE_BASE_REPORT_H_

#include <string>

namespace pylaunch::engine {

// One line each on stderr, written with one write(2) so that parallel processes do not mix theirs;
// never through Python's streams.
void Explain(const std::string& what);
void Warning(const std::string& what);
// The house shape: what, cause, hint (the last two may be empty).
void ErrorReport(const std::string& what, const std::string& cause, const std::string& hint);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_BASE_REPORT_H_
