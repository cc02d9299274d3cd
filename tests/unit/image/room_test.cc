#include "image/room.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "image/image_files.h"

namespace pylaunch::image {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr char kUnlimited[] = "9223372036854771712\n";

// A folder with a /proc and a /sys of our own.
class RoomTest : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(root_); }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  void Mount(const std::string& line, const std::string& groups) {
    Write("/proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + line + "\n");
    Write("/proc/self/cgroup", groups);
  }
  void Unified(const std::string& folder, const std::string& max, uint64_t used,
               uint64_t files = 0) {
    Write(folder + "/memory.max", max + "\n");
    Write(folder + "/memory.current", std::to_string(used) + "\n");
    Write(folder + "/memory.stat",
          "anon 5\nactive_file 7\ninactive_file " + std::to_string(files) + "\n");
  }
  void First(const std::string& folder, const std::string& limit, uint64_t used) {
    Write(folder + "/memory.limit_in_bytes", limit);
    Write(folder + "/memory.usage_in_bytes", std::to_string(used) + "\n");
    Write(folder + "/memory.stat", "inactive_file 1\ntotal_inactive_file 1000\n");
  }
  MemoryRoom Left() { return MemoryLeft(root_); }
  std::string Limit() { return Left().limit.substr(std::min(root_.size(), Left().limit.size())); }

  const std::string root_ = testing::TempDir() + "room_test." + std::to_string(getpid());
  static constexpr char kUnifiedMount[] =
      "30 22 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate";
};

TEST_F(RoomTest, IsUnlimitedWhereNothingIsKnown) { EXPECT_EQ(Left().bytes, UINT64_MAX); }

TEST_F(RoomTest, IsWhatTheMachineHas) {
  Write("/proc/meminfo", "MemTotal:  9000 kB\nMemFree:  1 kB\nMemAvailable:  2000 kB\n");
  EXPECT_EQ(Left().bytes, 2000u * 1024);
  EXPECT_EQ(Left().limit, "this machine");
}

TEST_F(RoomTest, IsWhatTheGroupLeaves) {
  Mount(kUnifiedMount, "0::/job/task\n");
  Unified("/sys/fs/cgroup/job/task", "100000", 60000, 15000);
  EXPECT_EQ(Left().bytes, 55000u);
  EXPECT_EQ(Limit(), "/sys/fs/cgroup/job/task/memory.max");
}

TEST_F(RoomTest, IsWhatTheGroupsAboveLeave) {
  Mount(kUnifiedMount, "0::/job/task\n");
  Unified("/sys/fs/cgroup/job/task", "max", 60000);
  Unified("/sys/fs/cgroup/job", "90000", 80000);
  EXPECT_EQ(Left().bytes, 10000u);
  EXPECT_EQ(Limit(), "/sys/fs/cgroup/job/memory.max");
  Unified("/sys/fs/cgroup", "85000", 81000);  // A container's own root.
  EXPECT_EQ(Left().bytes, 4000u);
}

TEST_F(RoomTest, IsNoneWhereMoreIsUsedThanAllowed) {
  Mount(kUnifiedMount, "0::/\n");
  Unified("/sys/fs/cgroup", "100", 200);
  EXPECT_EQ(Left().bytes, 0u);
}

TEST_F(RoomTest, EndsWhereTheKernelSlowsDown) {
  Mount(kUnifiedMount, "0::/job\n");
  Unified("/sys/fs/cgroup/job", "100000", 60000);
  Write("/sys/fs/cgroup/job/memory.high", "70000\n");
  EXPECT_EQ(Left().bytes, 10000u);
  EXPECT_EQ(Limit(), "/sys/fs/cgroup/job/memory.high");
}

TEST_F(RoomTest, KnowsTheFirstVersion) {
  Mount("35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
        "9:name=systemd:/\n4:memory:/docker/7\n0::/\n");
  First("/sys/fs/cgroup/memory/docker/7", "50000\n", 41000);
  First("/sys/fs/cgroup/memory/docker", kUnlimited, 99000);
  EXPECT_EQ(Left().bytes, 10000u);
  Write("/sys/fs/cgroup/memory/docker/7/memory.memsw.limit_in_bytes", "45000\n");
  EXPECT_EQ(Left().bytes, 5000u);
}

TEST_F(RoomTest, KnowsAGroupThatIsMountedAlone) {
  Mount("35 31 0:32 /docker/7 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
        "4:memory:/docker/7/inner\n");
  First("/sys/fs/cgroup/memory", "50000\n", 41000);
  EXPECT_EQ(Left().bytes, 10000u);
  First("/sys/fs/cgroup/memory/inner", "45000\n", 41000);
  EXPECT_EQ(Left().bytes, 5000u);
}

TEST_F(RoomTest, TakesWhatIsMountedForAGroupElsewhere) {
  Mount(kUnifiedMount, "0::/../other\n");
  Unified("/sys/fs/cgroup", "50000", 41000);
  EXPECT_EQ(Left().bytes, 9000u);
}

TEST_F(RoomTest, KnowsBothVersionsAtOnce) {
  Mount(std::string("35 31 0:32 / /m rw - cgroup cgroup rw,memory\n") +
            "36 31 0:33 / /u rw - cgroup2 cgroup2 rw",
        "4:cpu,memory:/a\n0::/b\n");
  First("/m/a", "50000\n", 41000);
  EXPECT_EQ(Left().bytes, 10000u);
  Unified("/u/b", "100", 0);
  EXPECT_EQ(Left().bytes, 100u);
}

TEST_F(RoomTest, IsAskedForOneImage) {
  Write("/proc/self/status", "VmSize:  500000 kB\nRssAnon:  102400 kB\nVmSwap:  0 kB\n");
  const uint64_t needed = NeededFor(100 * kMiB, /*in_memory=*/false).memory;
  EXPECT_GE(needed, 110 * kMiB);
  Mount(kUnifiedMount, "0::/\n");
  Unified("/sys/fs/cgroup", std::to_string(needed - 1), 0);
  EXPECT_TRUE(RoomFor("/usr", root_).why_not.starts_with(kNoRoom));
  EXPECT_NE(RoomFor("/usr", root_).why_not.find(root_ + "/sys/fs/cgroup/memory.max leaves"),
            std::string::npos);
  Unified("/sys/fs/cgroup", std::to_string(needed), 0);
  EXPECT_EQ(RoomFor("/usr", root_).why_not, "");
  EXPECT_TRUE(RoomFor("/usr", root_).tight);
  Unified("/sys/fs/cgroup", std::to_string(needed + 300 * kMiB), 0);
  EXPECT_FALSE(RoomFor("/usr", root_).tight);
}

TEST_F(RoomTest, IsAskedForTheDisk) {
  Write("/proc/self/status", "RssAnon:  99999999999 kB\n");
  EXPECT_NE(RoomFor("/usr", root_).why_not.find("the disk of /usr leaves"), std::string::npos);
}

TEST_F(RoomTest, CountsAnImageInMemory) {
  EXPECT_EQ(NeededFor(kMiB, true).memory - NeededFor(kMiB, false).memory, kMiB);
}

}  // namespace
}  // namespace pylaunch::image
