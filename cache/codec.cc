#include "cache/codec.h"

#include <zstd.h>

#include <memory>
#include <new>

#include "cache/codec_internal.h"
#include "cache/format.h"

namespace pylaunch::cache {
namespace {

struct FreeCCtx {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
};

// The densest block (RFC 8878 3.1.1.2) is 4 bytes for 128 KiB of one value. So a few damaged bytes
// cannot make us take a gigabyte.
constexpr uint32_t kMaxRatio = 128 * 1024 / 4;

Result<void> CheckFrame(std::string_view frame, uint32_t raw_size) {
  // zstd itself would also take skippable frames and, if so built, formats older than RFC 8878.
  if (frame.size() < 4 || format::Load<uint32_t>(frame.data()) != ZSTD_MAGICNUMBER) {
    return MakeError(ErrorCode::kCorrupt, "not a zstd frame");
  }
  if (raw_size > format::kMaxRawSize ||
      ZSTD_getFrameContentSize(frame.data(), frame.size()) != raw_size) {
    return MakeError(ErrorCode::kCorrupt, "frame of another size");
  }
  if (raw_size / kMaxRatio > frame.size()) {
    return MakeError(ErrorCode::kCorrupt, "frame claims more than it can hold");
  }
  return {};
}

// A frame of one raw block, in the one form that we write: magic, a descriptor that says "single
// segment, content size in four bytes", that size, the block's header (RFC 8878 3.1.1).
constexpr char kStoredDescriptor = '\xA0';
constexpr size_t kStoredHeader = 4 + 1 + 4 + 3;

uint32_t LastRawBlock(size_t size) { return static_cast<uint32_t>(size) << 3 | 1; }

void AppendNumber(uint32_t number, size_t bytes, std::string* to) {
  for (size_t i = 0; i < bytes; ++i) to->push_back(static_cast<char>(number >> 8 * i));
}

std::string Store(std::string_view raw) {
  std::string frame;
  frame.reserve(kStoredHeader + raw.size());
  AppendNumber(ZSTD_MAGICNUMBER, 4, &frame);
  frame.push_back(kStoredDescriptor);
  AppendNumber(static_cast<uint32_t>(raw.size()), 4, &frame);
  AppendNumber(LastRawBlock(raw.size()), 3, &frame);
  return frame.append(raw);
}

// REQUIRES: CheckFrame has passed.
bool IsStored(std::string_view frame, uint32_t raw_size) {
  return frame.size() == kStoredHeader + raw_size && frame[4] == kStoredDescriptor &&
         format::Load<uint32_t>(frame.data() + 8) >> 8 == LastRawBlock(raw_size);
}

}  // namespace

void FreeDCtx::operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }

Result<std::string> Compress(std::string_view raw, int level) try {
  if (raw.size() <= kStoredSize) return Store(raw);
  const std::unique_ptr<ZSTD_CCtx, FreeCCtx> context(ZSTD_createCCtx());
  if (context == nullptr) return MakeError(ErrorCode::kIo, "zstd: out of memory");
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, level);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_contentSizeFlag, 1);
  std::string frame(ZSTD_compressBound(raw.size()), '\0');
  const size_t size =
      ZSTD_compress2(context.get(), frame.data(), frame.size(), raw.data(), raw.size());
  if (ZSTD_isError(size)) {
    return MakeError(ErrorCode::kIo, std::string("zstd: ") + ZSTD_getErrorName(size));
  }
  frame.resize(size);
  return frame;
} catch (const std::bad_alloc&) {
  return MakeError(ErrorCode::kIo, "zstd: out of memory");
}

Result<void> DecompressWith(DCtxPtr* context, std::string_view frame, uint32_t raw_size,
                            std::string* out) try {
  if (auto checked = CheckFrame(frame, raw_size); !checked) return checked;
  if (IsStored(frame, raw_size)) {
    out->assign(frame.substr(kStoredHeader));
    return {};
  }
  if (*context == nullptr) context->reset(ZSTD_createDCtx());
  if (*context == nullptr) return MakeError(ErrorCode::kIo, "zstd: out of memory");
  out->resize(raw_size);
  const size_t size =
      ZSTD_decompressDCtx(context->get(), out->data(), out->size(), frame.data(), frame.size());
  if (ZSTD_isError(size)) {
    return MakeError(ErrorCode::kCorrupt, std::string("zstd: ") + ZSTD_getErrorName(size));
  }
  if (size != raw_size) return MakeError(ErrorCode::kCorrupt, "frame of another size");
  return {};
} catch (const std::bad_alloc&) {
  return MakeError(ErrorCode::kIo, "zstd: out of memory");
}

Result<void> Decompress(std::string_view frame, uint32_t raw_size, std::string* out) {
  DCtxPtr context;
  return DecompressWith(&context, frame, raw_size, out);
}

}  // namespace pylaunch::cache
