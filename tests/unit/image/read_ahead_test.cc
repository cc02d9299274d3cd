#include "image/read_ahead.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include "image/format.h"

namespace pylaunch::image {
namespace {

namespace fs = std::filesystem;

constexpr size_t kPages = 2048;
// What comes before, the kernel may read with the header.
constexpr size_t kFirst = 1024;

class ReadingAheadTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "ahead-XXXXXX";
    folder_ = mkdtemp(name.data());
    image_ = folder_ + "/a.img";
    library_ = folder_ + "/lib.so";
    struct statfs fs;
    if (statfs(folder_.c_str(), &fs) != 0 || fs.f_type == TMPFS_MAGIC) {
      GTEST_SKIP() << "no disk below it";
    }
    Header header = {};
    header.format = kFormat;
    header.file_size = kPages * kPage;
    std::string bytes(kPages * kPage, 'x');
    std::ofstream(library_, std::ios::binary) << bytes;
    std::memcpy(bytes.data(), &header, sizeof header);
    std::ofstream(image_, std::ios::binary) << bytes;
  }
  void TearDown() override { fs::remove_all(folder_); }

  // The image has that list, and nothing is in memory.
  void Put(const std::string& list) const {
    ASSERT_TRUE(AppendPageList(image_, list));
    Forget(image_, 0, 0);
    Forget(library_, 0, 0);
    ASSERT_EQ(CountInMemory(image_), 0u);
    ASSERT_EQ(CountInMemory(library_), 0u);
  }

  static void Forget(const std::string& path, size_t page, size_t pages) {
    const int fd = open(path.c_str(), O_RDONLY);
    fsync(fd);
    posix_fadvise(fd, static_cast<off_t>(page * kPage), static_cast<off_t>(pages * kPage),
                  POSIX_FADV_DONTNEED);
    close(fd);
  }

  // As a start does, to the end.
  void Read(bool always) const {
    const int fd = open(image_.c_str(), O_RDONLY);
    { ReadingAhead ahead(fd, always); }
    close(fd);
  }

  // From kFirst on.
  static std::vector<bool> InMemory(const std::string& path) {
    const int fd = open(path.c_str(), O_RDONLY);
    void* memory = mmap(nullptr, kPages * kPage, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    std::vector<unsigned char> pages(kPages);
    EXPECT_EQ(mincore(memory, kPages * kPage, pages.data()), 0);
    munmap(memory, kPages * kPage);
    std::vector<bool> there;
    for (size_t page = kFirst; page < kPages; ++page) there.push_back((pages[page] & 1) != 0);
    return there;
  }
  static size_t CountInMemory(const std::string& path) {
    const std::vector<bool> there = InMemory(path);
    return static_cast<size_t>(std::count(there.begin(), there.end(), true));
  }
  // What was asked for may be under way.
  static size_t CountWhenRead(const std::string& path, size_t expected) {
    for (int tries = 0; tries < 1000 && CountInMemory(path) < expected; ++tries) usleep(5000);
    return CountInMemory(path);
  }

  PageList List() const {
    return {{{"", {{kFirst + 5, kFirst + 105}, {2000, 2001}}}, {library_, {{1500, 1502}}}}};
  }

  std::string folder_, image_, library_;
};

TEST_F(ReadingAheadTest, WhatIsListedIsReadAndNothingElse) {
  Put(List().Serialize());
  Read(/*always=*/false);
  EXPECT_EQ(CountWhenRead(image_, 101), 101u);
  const std::vector<bool> there = InMemory(image_);
  for (size_t page = 0; page < there.size(); ++page) {
    EXPECT_EQ(there[page], (page >= 5 && page < 105) || page + kFirst == 2000) << page;
  }
  EXPECT_EQ(CountWhenRead(library_, 2), 2u);
}

TEST_F(ReadingAheadTest, WhereTheImageIsInMemoryNothingIsRead) {
  Put(List().Serialize());
  Read(/*always=*/false);
  ASSERT_EQ(CountWhenRead(image_, 101), 101u);
  ASSERT_EQ(CountWhenRead(library_, 2), 2u);
  Forget(library_, 0, 0);
  Read(/*always=*/false);
  usleep(100'000);
  EXPECT_EQ(CountInMemory(library_), 0u);
  Read(/*always=*/true);
  EXPECT_EQ(CountWhenRead(library_, 2), 2u);
}

TEST_F(ReadingAheadTest, APartThatIsNotInMemoryIsEnough) {
  Put(List().Serialize());
  Read(/*always=*/false);
  ASSERT_EQ(CountWhenRead(image_, 101), 101u);
  Forget(image_, 2000, 1);
  ASSERT_EQ(CountInMemory(image_), 100u);
  Read(/*always=*/false);
  EXPECT_EQ(CountWhenRead(image_, 101), 101u);
}

TEST_F(ReadingAheadTest, WithoutAListNothingIsRead) {
  std::string damaged = List().Serialize();
  damaged.back() ^= 1;
  Put(damaged);
  Read(/*always=*/true);
  usleep(100'000);
  EXPECT_EQ(CountInMemory(image_) + CountInMemory(library_), 0u);
}

TEST_F(ReadingAheadTest, WithoutAnImageNothingIsRead) {
  Put(List().Serialize());
  { ReadingAhead ahead(-1, true); }
  usleep(100'000);
  EXPECT_EQ(CountInMemory(image_) + CountInMemory(library_), 0u);
}

TEST_F(ReadingAheadTest, WhatIsGoneIsLeftOut) {
  Put(List().Serialize());
  fs::remove(library_);
  ASSERT_EQ(mkfifo(library_.c_str(), 0600), 0);
  Read(/*always=*/false);
  EXPECT_EQ(CountWhenRead(image_, 101), 101u);
}

}  // namespace
}  // namespace pylaunch::image
