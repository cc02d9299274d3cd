#include "image/packed_proofs.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

namespace pylaunch::image {
namespace {

namespace fs = std::filesystem;

class PackedProofsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "proofs-XXXXXX";
    root_ = mkdtemp(name.data());
    // Enough for several groups of one folder, and for more than one thread.
    for (int package = 0; package < 4; ++package) {
      for (int module = 0; module < 300; ++module) {
        Write(std::to_string(package) + "/m" + std::to_string(module) + ".py");
      }
    }
    Write("alone/deep/below/m.py");
    files_.push_back({(root_ / "0/absent.py").string(), FileState()});
    files_.push_back({(root_ / "absent/m.py").string(), FileState()});
    packed_ = PackProofs(files_);
  }

  void TearDown() override { fs::remove_all(root_); }

  void Write(const std::string& name) {
    const fs::path path = root_ / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << name;
    files_.push_back({path.string(), StateOf(path.string())});
  }

  fs::path root_;
  std::vector<FileProof> files_;
  std::string packed_;
};

TEST_F(PackedProofsTest, NothingChanged) {
  EXPECT_EQ(CountProofs(packed_), files_.size());
  EXPECT_EQ(FirstChanged(packed_), "");
  EXPECT_EQ(FirstChanged(PackProofs({})), "");
}

TEST_F(PackedProofsTest, UnpackedTheyArePackedToTheSame) {
  files_[5].link = true;
  files_.push_back({"relative.py", FileState()});
  files_.push_back({root_.string(), AskedOf(root_.string(), false)});
  packed_ = PackProofs(files_);
  const std::vector<FileProof> unpacked = UnpackProofs(packed_);
  EXPECT_EQ(unpacked.size(), files_.size());
  EXPECT_EQ(PackProofs(unpacked), packed_);
  for (size_t size = 0; size < packed_.size(); size += 97) {
    UnpackProofs(packed_.substr(0, size));  // Reads nothing beyond it.
  }
}

TEST_F(PackedProofsTest, EachFileCounts) {
  for (size_t i = 0; i < files_.size(); i += 37) {
    std::vector<FileProof> files = files_;
    ++files[i].state.ctime_ns;
    EXPECT_EQ(FirstChanged(PackProofs(files)), files[i].path);
  }
}

size_t CountDescriptors() {
  const auto all = fs::directory_iterator("/proc/self/fd");
  return static_cast<size_t>(std::distance(fs::begin(all), fs::end(all)));
}

// Its threads have their own descriptors and processors.
TEST_F(PackedProofsTest, LeavesTheProcessAsItWas) {
  cpu_set_t before, after;
  sched_getaffinity(0, sizeof before, &before);
  const size_t descriptors = CountDescriptors();
  EXPECT_EQ(FirstChanged(packed_), "");
  EXPECT_EQ(CountDescriptors(), descriptors);
  sched_getaffinity(0, sizeof after, &after);
  EXPECT_TRUE(CPU_EQUAL(&before, &after));
}

// A thread may be at its end before it is moved.
TEST_F(PackedProofsTest, LeavesTheProcessWhereItWasWhenItsThreadsHaveNothingToDo) {
  for (FileProof& file : files_) ++file.state.ctime_ns;
  packed_ = PackProofs(files_);
  cpu_set_t before, after;
  sched_getaffinity(0, sizeof before, &before);
  for (int i = 0; i < 4000; ++i) {
    ASSERT_NE(FirstChanged(packed_), "");
    sched_getaffinity(0, sizeof after, &after);
    ASSERT_TRUE(CPU_EQUAL(&before, &after)) << i;
  }
}

TEST_F(PackedProofsTest, EditedRemovedAndNewFiles) {
  std::ofstream(files_[700].path) << "longer than it was before";
  EXPECT_EQ(FirstChanged(packed_), files_[700].path);
  files_[700].state = StateOf(files_[700].path);
  packed_ = PackProofs(files_);
  EXPECT_EQ(FirstChanged(packed_), "");
  fs::remove(root_ / "alone/deep/below/m.py");
  EXPECT_EQ(FirstChanged(packed_), root_ / "alone/deep/below/m.py");
  std::ofstream(root_ / "alone/deep/below/m.py") << "another";
  EXPECT_EQ(FirstChanged(packed_), root_ / "alone/deep/below/m.py");
}

TEST_F(PackedProofsTest, FoldersThatWereAskedAbout) {
  const std::string path = root_ / "asked";
  fs::create_directory(path);
  const std::string packed = PackProofs({{path, AskedOf(path, /*link=*/false)}});
  std::ofstream(path + "/new") << "";
  EXPECT_EQ(FirstChanged(packed), "") << "its names are not asked for";
  fs::permissions(path, fs::perms::owner_read);
  EXPECT_EQ(FirstChanged(packed), path);
  fs::permissions(path, fs::perms::owner_all);
  fs::remove_all(path);
  EXPECT_EQ(FirstChanged(packed), path);
  std::ofstream(path) << "";
  EXPECT_EQ(FirstChanged(packed), path);
}

TEST_F(PackedProofsTest, LinksThatWereRead) {
  const std::string path = root_ / "link";
  fs::create_symlink("nowhere", path);
  const auto packed = [&path](bool link) {
    return PackProofs({{path, AskedOf(path, link), link}});
  };
  const std::string text = packed(true), target = packed(false);
  fs::remove(path);
  fs::create_symlink("elsewhere", path);
  EXPECT_EQ(FirstChanged(text), path);
  EXPECT_EQ(FirstChanged(target), "");
}

TEST_F(PackedProofsTest, AFolderThatIsGoneOrReplaced) {
  fs::rename(root_ / "2", root_ / "away");
  EXPECT_TRUE(FirstChanged(packed_).starts_with((root_ / "2/").string()));
  fs::create_directory_symlink(root_ / "1", root_ / "2");
  EXPECT_TRUE(FirstChanged(packed_).starts_with((root_ / "2/").string()));
  fs::remove(root_ / "2");
  fs::create_directory_symlink(root_ / "away", root_ / "2");
  EXPECT_EQ(FirstChanged(packed_), "");
  fs::create_directory(root_ / "absent");
  EXPECT_EQ(FirstChanged(packed_), "");
  std::ofstream(root_ / "absent/m.py") << "";
  EXPECT_EQ(FirstChanged(packed_), root_ / "absent/m.py");
}

TEST_F(PackedProofsTest, RelativePathsStayRelative) {
  const fs::path before = fs::current_path();
  fs::current_path(root_);
  const std::string packed = PackProofs({{"3/m1.py", StateOf("3/m1.py")}, {"m", FileState()}});
  EXPECT_EQ(FirstChanged(packed), "");
  fs::current_path(root_ / "3");
  EXPECT_EQ(FirstChanged(packed), "3/m1.py");
  fs::current_path(before);
}

TEST_F(PackedProofsTest, ABrokenListHoldsForNothing) {
  for (size_t size = 0; size < packed_.size(); size += 101) {
    EXPECT_NE(FirstChanged(packed_.substr(0, size)), "") << size;
  }
}

}  // namespace
}  // namespace pylaunch::image
