#include "launcher/engine/exit/exit_list.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include "absl/base/config.h"

extern "C" int __cxa_atexit(void (*function)(void*), void* argument, void* library);

namespace pylaunch::engine {
namespace {

void DoNothing(void*) {}
void DoNothingWithStatus(int, void*) {}

TEST(ExitList, SeesWhatWasRegisteredPastUs) {
#ifdef ABSL_HAVE_ADDRESS_SANITIZER
  GTEST_SKIP() << "AddressSanitizer registers functions of its own in their place";
#endif
  constexpr int kMoreThanABlock = 40;
  static int ours[kMoreThanABlock], another;
  const auto is_ours = [](const void* argument) {
    return argument >= ours && argument < ours + kMoreThanABlock;
  };
  ExitList list;
  ASSERT_TRUE(list.Note());
  EXPECT_TRUE(list.HasOnly(is_ours));
  for (int& argument : ours) {
    ASSERT_EQ(__cxa_atexit(DoNothing, &argument, nullptr), 0);
    EXPECT_TRUE(list.EndsWith(&argument));
  }
  EXPECT_TRUE(list.HasOnly(is_ours));
  ASSERT_EQ(__cxa_atexit(DoNothing, &another, nullptr), 0);
  EXPECT_FALSE(list.EndsWith(&ours[kMoreThanABlock - 1]));
  EXPECT_FALSE(list.HasOnly(is_ours));

  ASSERT_TRUE(list.Note());
  EXPECT_TRUE(list.HasOnly(is_ours));
  ASSERT_EQ(on_exit(DoNothingWithStatus, &ours[0]), 0);
  EXPECT_FALSE(list.EndsWith(&ours[0]));
  EXPECT_FALSE(list.HasOnly(is_ours));
}

}  // namespace
}  // namespace pylaunch::engine
