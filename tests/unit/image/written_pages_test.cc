#include "image/written_pages.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <string>

namespace pylaunch::image {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kPages = 3000;  // Written one by one, more runs than one answer has.

class WrittenPagesTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "pages-XXXXXX";
    const int fd = mkstemp(name.data());
    ASSERT_GE(fd, 0);
    unlink(name.c_str());
    const std::string content(kPages * kPage, 'x');
    ASSERT_EQ(write(fd, content.data(), content.size()), static_cast<ssize_t>(content.size()));
    void* memory = mmap(nullptr, content.size(), PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    close(fd);
    ASSERT_NE(memory, MAP_FAILED);
    memory_ = static_cast<char*>(memory);
    utsname kernel;
    int major = 0, minor = 0;
    uname(&kernel);
    std::sscanf(kernel.release, "%d.%d", &major, &minor);
    if (major < 6 || (major == 6 && minor < 7)) GTEST_SKIP() << "no PAGEMAP_SCAN";
  }
  void TearDown() override { munmap(memory_, kPages * kPage); }

  bool Scan() {
    for (size_t page = 0; page < kPages; ++page) pages_.Ask(At(page));
    return pages_.Scan();
  }
  char* At(size_t page) { return memory_ + page * kPage + 100; }

  char* memory_ = nullptr;
  WrittenPages pages_;
};

TEST_F(WrittenPagesTest, NothingIsKnownBeforeAScan) { EXPECT_FALSE(pages_.IsUntouched(At(0))); }

TEST_F(WrittenPagesTest, ReadingLeavesAPageUntouched) {
  volatile char sum = *At(1);
  sum = sum + *At(7);
  ASSERT_TRUE(Scan());
  for (size_t page = 0; page < kPages; ++page) EXPECT_TRUE(pages_.IsUntouched(At(page)));
}

TEST_F(WrittenPagesTest, WhatWasNotAskedForCountsAsWritten) {
  constexpr size_t kReach = size_t{2} << 20;
  char* middle = memory_ + kPages * kPage / 2;
  pages_.Ask(middle + kReach);
  pages_.Ask(middle - kReach);
  pages_.Ask(middle - kReach);
  ASSERT_TRUE(pages_.Scan());
  EXPECT_TRUE(pages_.IsUntouched(middle - kReach));
  EXPECT_FALSE(pages_.IsUntouched(middle));
  EXPECT_TRUE(pages_.IsUntouched(middle + kReach));
  EXPECT_FALSE(pages_.IsUntouched(middle - 3 * kReach));
  EXPECT_FALSE(pages_.IsUntouched(middle + 3 * kReach));
}

TEST_F(WrittenPagesTest, EveryWrittenPageIsTold) {
  for (size_t page = 1; page < kPages; page += 2) *At(page) = 'y';
  ASSERT_TRUE(Scan());
  for (size_t page = 0; page < kPages; ++page) {
    EXPECT_EQ(pages_.IsUntouched(At(page)), page % 2 == 0) << page;
  }
  // In any order.
  EXPECT_FALSE(pages_.IsUntouched(At(1)));
  EXPECT_TRUE(pages_.IsUntouched(At(2998)));
  EXPECT_TRUE(pages_.IsUntouched(At(0)));
  EXPECT_FALSE(pages_.IsUntouched(At(2999)));
}

TEST_F(WrittenPagesTest, TheSameValueIsAWriteToo) {
  *static_cast<volatile char*>(At(5)) = 'x';
  ASSERT_TRUE(Scan());
  EXPECT_FALSE(pages_.IsUntouched(At(5)));
}

TEST_F(WrittenPagesTest, AChildInheritsWhatWasWritten) {
  *At(3) = 'y';
  const pid_t child = fork();
  if (child == 0) {
    *At(9) = 'y';
    const bool right = Scan() && !pages_.IsUntouched(At(3)) && !pages_.IsUntouched(At(9)) &&
                       pages_.IsUntouched(At(4));
    _exit(right ? 0 : 1);
  }
  int status;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace pylaunch::image
