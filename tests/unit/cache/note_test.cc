#include "cache/note.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "faulty_file_env.h"
#include "test_util.h"

namespace pylaunch::cache {
namespace {

TEST(Note, IsTakenOnce) {
  TempFolder folder;
  const std::string archive = folder / "a.pla";
  EXPECT_EQ(TakeNote(PosixFileEnv(), archive), "");
  LeaveNote(PosixFileEnv(), archive, "first");
  LeaveNote(PosixFileEnv(), archive, "second");
  EXPECT_EQ(TakeNote(PosixFileEnv(), archive), "second");
  EXPECT_EQ(TakeNote(PosixFileEnv(), archive), "");
  EXPECT_TRUE(NamesIn(folder.path()).empty());
}

TEST(Note, IsOneLineAndNobodyElses) {
  TempFolder folder;
  const std::string archive = folder / "a.pla";
  LeaveNote(PosixFileEnv(), archive, "two\nlines \x1b[31m");
  EXPECT_EQ(TakeNote(PosixFileEnv(), archive), "two lines  [31m");
  WriteAll(archive + ".note", "from others");
  chmod((archive + ".note").c_str(), 0666);
  EXPECT_EQ(TakeNote(PosixFileEnv(), archive), "");
  WriteAll(archive + ".note", std::string(100'000, 'x'));
  EXPECT_EQ(TakeNote(PosixFileEnv(), archive), "");
}

TEST(Note, ThatCannotBeWrittenIsNoNote) {
  TempFolder folder;
  for (const char* operation : {"CreateTemp", "Append", "Rename"}) {
    FaultyFileEnv env;
    env.FailAll(operation);
    LeaveNote(env, folder / "a.pla", "what");
    EXPECT_EQ(env.fired(), 1);
    EXPECT_TRUE(NamesIn(folder.path()).empty()) << operation;
  }
}

}  // namespace
}  // namespace pylaunch::cache
