#ifndef PYLAUNCH_CACHE_CODEC_H_
#define PYLAUNCH_CACHE_CODEC_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "cache/error.h"

namespace pylaunch::cache {

// zstd frames with a stated content size (RFC 8878), and without zstd's own checksum of 32 bits:
// the archive has a better one. Thread-safe.

// What is not larger goes into its frame as it is: decompressing it costs more time, 15 to 30
// microseconds, than reading three times as much. Of transformers' modules these are 58 in a
// hundred, and the archive grows by a sixth.
inline constexpr size_t kStoredSize = 16 * 1024;

// Compresses `raw`; `level` as zstd's own.
Result<std::string> Compress(std::string_view raw, int level);
// Decompresses exactly one frame of exactly `raw_size` bytes into `out`. kCorrupt: anything else.
Result<void> Decompress(std::string_view frame, uint32_t raw_size, std::string* out);

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_CACHE_CODEC_H_
