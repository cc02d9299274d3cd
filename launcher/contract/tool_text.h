#ifndef PYLAUNCH_LAUNCHER_CONTRACT_TOOL_TEXT_H_
#define PYLAUNCH_LAUNCHER_CONTRACT_TOOL_TEXT_H_

#include <algorithm>
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

// "PATH: cannot list: why", with a hint.
inline void PrintError(const cache::Error& error, const char* hint) {
  const size_t colon = std::min(error.message.rfind(": "), error.message.size());
  std::fprintf(stderr, "pylaunch: error: %s\n", error.message.substr(0, colon).c_str());
  if (colon < error.message.size()) {
    std::fprintf(stderr, "  cause: %s\n", error.message.c_str() + colon + 2);
  }
  std::fprintf(stderr, "  hint:  %s\n", hint);
}
inline constexpr char kUnlistableHint[] =
    "let this user read and enter it, or name another folder: --cache, PYLAUNCH_CACHE";

inline void Print(const nlohmann::ordered_json& report) {
  // Paths need not be UTF-8.
  std::puts(report.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
}

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_CONTRACT_TOOL_TEXT_H_
