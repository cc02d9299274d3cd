#ifndef PYLAUNCH_CACHE_CODEC_INTERNAL_H_
#define PYLAUNCH_CACHE_CODEC_INTERNAL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "cache/error.h"

struct ZSTD_DCtx_s;

namespace pylaunch::cache {

struct FreeDCtx {
  void operator()(ZSTD_DCtx_s* context) const;
};
using DCtxPtr = std::unique_ptr<ZSTD_DCtx_s, FreeDCtx>;

// Decompress with a context that is made at the first call and kept: making one costs more than a
// small module's frame. One call at a time a context.
Result<void> DecompressWith(DCtxPtr* context, std::string_view frame, uint32_t raw_size,
                            std::string* out);

}  // namespace pylaunch::cache

#endif  // PYLAUNCH_CACHE_CODEC_INTERNAL_H_
