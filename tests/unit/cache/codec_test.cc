#include "cache/codec.h"

#include <gtest/gtest.h>
#include <zstd.h>

#include "test_util.h"

namespace pylaunch::cache {
namespace {

TEST(Codec, RoundTripsEverySize) {
  for (const size_t size : {1, 10, 1000, 100'000, 3'000'000}) {
    const std::string code = CodeOf(1, size);
    const auto frame = Compress(code, 3);
    ASSERT_TRUE(frame);
    std::string out = "old content";
    ASSERT_TRUE(Decompress(*frame, static_cast<uint32_t>(size), &out));
    EXPECT_EQ(out, code);
  }
}

// One that is stored as it is, and one that is compressed.
constexpr uint32_t kSizes[] = {600, kStoredSize + 100};

TEST(Codec, ZstdItselfReadsEveryFrame) {
  for (const size_t size : {size_t{1}, size_t{600}, kStoredSize, kStoredSize + 1}) {
    const std::string code = CodeOf(1, size);
    const auto frame = Compress(code, 3);
    ASSERT_TRUE(frame);
    EXPECT_EQ(ZSTD_getFrameContentSize(frame->data(), frame->size()), size);
    std::string out(size, '\0');
    EXPECT_EQ(ZSTD_decompress(out.data(), size, frame->data(), frame->size()), size);
    EXPECT_EQ(out, code);
  }
}

TEST(Codec, OnlyWhatIsLargeIsCompressed) {
  EXPECT_GT(Compress(std::string(kStoredSize, 'x'), 3)->size(), kStoredSize);
  EXPECT_LT(Compress(std::string(kStoredSize + 1, 'x'), 3)->size(), 100u);
}

TEST(Codec, WrongRawSizeIsRefusedBeforeAnythingIsAllocated) {
  for (const uint32_t right : kSizes) {
    const auto frame = Compress(CodeOf(1, right), 3);
    ASSERT_TRUE(frame);
    for (const uint32_t size : {0u, right - 1, right + 1, 1u << 30, ~0u}) {
      std::string out;
      const auto done = Decompress(*frame, size, &out);
      ASSERT_FALSE(done) << size;
      EXPECT_EQ(done.error().code, ErrorCode::kCorrupt);
      EXPECT_LT(out.capacity(), 100u);
    }
  }
}

TEST(Codec, AFrameThatTrulyClaimsMoreThanAGibibyteIsRefused) {
  // Magic, single segment with an 8-byte content size of 2 GiB, checksum flag.
  std::string frame("\x28\xb5\x2f\xfd\xe4\x00\x00\x00\x80\x00\x00\x00\x00\x01\x00\x00", 16);
  ASSERT_EQ(ZSTD_getFrameContentSize(frame.data(), frame.size()), uint64_t{1} << 31);
  std::string out;
  EXPECT_FALSE(Decompress(frame, 1u << 31, &out));
  EXPECT_LT(out.capacity(), 100u);
}

TEST(Codec, AFewBytesCannotClaimAGibibyte) {
  // As above, with 1 GiB, which is allowed, but not for 16 bytes.
  const std::string frame("\x28\xb5\x2f\xfd\xe4\x00\x00\x00\x40\x00\x00\x00\x00\x01\x00\x00", 16);
  ASSERT_EQ(ZSTD_getFrameContentSize(frame.data(), frame.size()), uint64_t{1} << 30);
  std::string out;
  EXPECT_FALSE(Decompress(frame, 1u << 30, &out));
  EXPECT_LT(out.capacity(), 100u);
}

TEST(Codec, TheDensestContentStillFits) {
  const std::string zeroes(50'000'000, '\0');
  const std::string frame = *Compress(zeroes, 19);
  std::string out;
  ASSERT_TRUE(Decompress(frame, static_cast<uint32_t>(zeroes.size()), &out));
  EXPECT_EQ(out, zeroes);
}

TEST(Codec, OneFrameExactly) {
  for (const uint32_t size : kSizes) {
    const std::string code = CodeOf(1, size);
    const std::string frame = *Compress(code, 3);
    std::string out;
    EXPECT_FALSE(Decompress(frame + frame, size, &out));
    EXPECT_FALSE(Decompress(frame + "x", size, &out));
    EXPECT_FALSE(Decompress("", size, &out));
    const std::string skippable("\x50\x2a\x4d\x18\x04\x00\x00\x00zstd", 12);
    EXPECT_FALSE(Decompress(skippable, 0, &out));
    EXPECT_FALSE(Decompress(skippable + frame, size, &out));
  }
}

TEST(Codec, EveryCutIsDetectedAndEveryFlipGivesThatManyBytesOrNone) {
  for (const uint32_t size : kSizes) {
    const std::string code = CodeOf(7, size);
    const std::string frame = *Compress(code, 3);
    std::string out;
    for (size_t i = 0; i < frame.size(); ++i) {
      EXPECT_FALSE(Decompress(std::string_view(frame).substr(0, i), size, &out)) << i;
      for (int bit = 0; bit < 8; ++bit) {
        std::string bad = frame;
        bad[i] ^= static_cast<char>(1 << bit);
        if (Decompress(bad, size, &out)) {
          EXPECT_EQ(out.size(), code.size()) << i << " " << bit;
        }
      }
    }
  }
}

}  // namespace
}  // namespace pylaunch::cache
