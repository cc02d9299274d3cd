#ifndef PYLAUNCH_CACHE_PYC_H_
#define PYLAUNCH_CACHE_PYC_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "cache/stamp.h"

// What CPython believes of a .pyc (PEP 552; `SourceLoader.get_code`, `_classify_pyc` and
// `_validate_timestamp_pyc` of Lib/importlib/_bootstrap_external.py). Archives that Python imports
// from (zipimport) have another rule, and none of ours.

namespace pylaunch::cache {

// Magic, flags, mtime and size of the source, each of 32 bits; marshal data follows.
inline constexpr size_t kPycHeader = 16;

enum class PycState {
  kUnusable,     // Too short, or of another Python.
  kStale,        // Of another state of the source.
  kCurrent,      // CPython loads it.
  kHashed,       // CPython loads it whatever the source is, unless it is told to compare.
  kCheckedHash,  // CPython compares the source's bytes, unless it is told not to.
};

// `pyc`: its bytes, or the first kPycHeader of them. `magic`: importlib.util.MAGIC_NUMBER as a
// little-endian integer.
PycState PycStateOf(std::string_view pyc, const SourceStamp& source, uint32_t magic);

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_CACHE_PYC_H_
