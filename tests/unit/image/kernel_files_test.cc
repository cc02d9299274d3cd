#include "image/kernel_files.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace pylaunch::image {
namespace {

std::string Value(const std::string& path) {
  const std::optional<Fact> fact = KernelFileFact(path);
  return fact ? fact->value : "no fact";
}

TEST(KernelFilesTest, TellsWhatIsInThatWhichIsDecided) {
  EXPECT_NE(Value("/proc/sys/kernel/osrelease"), Value("/proc/sys/kernel/ostype"));
  EXPECT_EQ(Value("/proc/sys/kernel/osrelease"), Value("/proc/sys/kernel/osrelease"));
  EXPECT_EQ(KernelFileFact("/proc/sys/kernel/ostype")->name, "kernel file /proc/sys/kernel/ostype");
  EXPECT_EQ(Value("/proc/sys/kernel/ostype"), Hashed("Linux\n"));
}

TEST(KernelFilesTest, TellsOfCountersOnlyThatTheyAreThere) {
  for (const char* path : {"/proc/meminfo", "/proc/loadavg", "/proc/sys/kernel/random/uuid",
                           "/proc/sys/fs/file-nr", "/proc/cpuinfo"}) {
    EXPECT_EQ(Value(path), "there") << path;
  }
  EXPECT_EQ(Value("/proc/driver/no/such"), "absent");
  EXPECT_EQ(Value("/sys/fs/cgroup/no/such/cpu.max"), "absent");
  EXPECT_EQ(Value("/sys/no/such"), "absent");
}

TEST(KernelFilesTest, OfProcessesOnlyTheirControlGroupCounts) {
  const std::string own = "/proc/" + std::to_string(getpid());
  EXPECT_EQ(KernelFileFact(own + "/cgroup")->name, "kernel file /proc/self/cgroup");
  for (const std::string& path :
       {std::string("/proc/self/maps"), own + "/maps", own, std::string("/proc/1/cgroup"),
        std::string("/proc/self"), std::string("/proc/thread-self/stat"),
        std::string("/etc/passwd"), std::string("/process"), std::string("/sysroot/x")}) {
    EXPECT_EQ(Value(path), "no fact") << path;
  }
}

TEST(KernelFilesTest, IsAskedForByName) {
  const Facts facts = Asked({{"a", "1"}, {"b", "2"}}, {"b", "kernel file /proc/sys/kernel/ostype"});
  const Facts expected = {{"b", "2"}, {"kernel file /proc/sys/kernel/ostype", Hashed("Linux\n")}};
  EXPECT_EQ(facts, expected);
}

}  // namespace
}  // namespace pylaunch::image
