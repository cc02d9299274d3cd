#include "launcher/command_line/output_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace pylaunch {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class OutputFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "output_file_XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = fs::canonical(name);
    before_ = fs::current_path();
    fs::current_path(folder_);
  }
  void TearDown() override {
    fs::current_path(before_);
    fs::remove_all(folder_);
  }
  static std::string Error(const std::string& path) {
    absl::StatusOr<std::string> file = OutputFile("--record", path);
    EXPECT_EQ(file.status().code(), absl::StatusCode::kInvalidArgument) << path;
    return std::string(file.status().message());
  }
  std::string Path(const std::string& name) { return (folder_ / name).string(); }

  fs::path folder_;
  fs::path before_;
};

TEST_F(OutputFileTest, IsAbsoluteAndNothingIsCreated) {
  EXPECT_EQ(*OutputFile("--record", "new.txt"), Path("new.txt"));
  EXPECT_EQ(*OutputFile("--record", Path("new.txt")), Path("new.txt"));
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(OutputFileTest, LinksAreFollowedSoThatTheyStay) {
  fs::create_directory("real");
  std::ofstream("real/file.txt") << "old";
  fs::create_symlink("real/file.txt", "link.txt");
  fs::create_directory_symlink("real", "folder");
  EXPECT_EQ(*OutputFile("--record", "link.txt"), Path("real/file.txt"));
  EXPECT_EQ(*OutputFile("--record", "folder/new.txt"), Path("real/new.txt"));
}

TEST_F(OutputFileTest, SaysWhyAFileCannotBeWritten) {
  std::ofstream("file") << "x";
  EXPECT_THAT(Error("no/such/x"), AllOf(StartsWith("--record: cannot write no/such/x\n  cause: "),
                                        HasSubstr("No such file"), HasSubstr("\n  hint:  ")));
  EXPECT_THAT(Error("file/x"), HasSubstr("file is no folder"));
  EXPECT_THAT(Error("."), HasSubstr("it is a folder"));
  EXPECT_THAT(Error("new/"), HasSubstr("cannot write new/"));
  EXPECT_THAT(Error("/dev/null"), HasSubstr("no regular file"));
}

}  // namespace
}  // namespace pylaunch
