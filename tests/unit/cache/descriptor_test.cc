#include "cache/descriptor.h"

#include <fcntl.h>
#include <gtest/gtest.h>

namespace pylaunch::cache {
namespace {

bool IsOpen(int fd) { return fcntl(fd, F_GETFD) >= 0; }

TEST(Descriptor, HasOneOwner) {
  int fd;
  {
    Descriptor first(open("/dev/null", O_RDONLY | O_CLOEXEC));
    fd = first.get();
    const Descriptor second(std::move(first));
    EXPECT_FALSE(first.ok());
    EXPECT_EQ(second.get(), fd);
    EXPECT_TRUE(IsOpen(fd));
  }
  EXPECT_FALSE(IsOpen(fd));
}

TEST(Descriptor, WhatIsReleasedStaysOpen) {
  int fd;
  {
    Descriptor owner(open("/dev/null", O_RDONLY | O_CLOEXEC));
    fd = owner.Release();
    EXPECT_FALSE(owner.ok());
  }
  EXPECT_TRUE(IsOpen(fd));
  close(fd);
}

TEST(Pipe, EndsAreClosedEachOnItsOwn) {
  Pipe pipe(O_CLOEXEC);
  ASSERT_TRUE(pipe.reading().ok() && pipe.writing().ok());
  EXPECT_EQ(write(pipe.writing().get(), "ab", 2), 2);
  pipe.writing().Close();
  char text[4];
  EXPECT_EQ(read(pipe.reading().get(), text, sizeof text), 2);
  EXPECT_EQ(read(pipe.reading().get(), text, sizeof text), 0) << "nobody can write any more";
  EXPECT_FALSE(Pipe(1 << 30).reading().ok());
}

}  // namespace
}  // namespace pylaunch::cache
