#ifndef PYLAUNCH_LAUNCHER_TOOL_TEXT_H_
#define PYLAUNCH_LAUNCHER_TOOL_TEXT_H_

#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cache/file_env.h"

// How the tools put numbers and reports.

namespace pylaunch {

inline double MiB(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

inline int64_t SecondsSince(int64_t ns) {
  return (cache::PosixFileEnv().NowNs() - ns) / 1'000'000'000;
}

// For JSON: seconds since 1970.
inline double Seconds(int64_t ns) { return static_cast<double>(ns) * 1e-9; }

inline void Print(const nlohmann::ordered_json& report) {
  // Paths need not be UTF-8.
  std::puts(report.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
}

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_TOOL_TEXT_H_
