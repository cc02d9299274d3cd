#include "launcher/engine/base/known_list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <link.h>

#include <cstdio>
#include <filesystem>
#include <string>

#include "launcher/engine/base/build_id.h"

namespace pylaunch::engine {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class KnownListTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = std::filesystem::path(testing::TempDir()) / "known_list" /
            testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(root_);
    std::filesystem::create_directories(root_);
  }
  void Install(const std::string& name) { std::filesystem::create_directory(root_ / name); }
  std::string In(const std::string& path) const { return (root_ / path).string(); }

  std::filesystem::path root_;
};

constexpr char kLibC10[] = "torch/lib/libc10.so";

TEST_F(KnownListTest, VouchesForTheVersionsItNamesOnly) {
  KnownList list("list.txt",
                 "# a comment\notherwise all of it\n"
                 "torch/lib/libc10 torch==2.12.0,2.13.0+cpu  # why\n");
  Install("torch-2.13.0+cpu.dist-info");
  EXPECT_TRUE(list.HasLibrary(In(kLibC10)));
  EXPECT_FALSE(list.HasLibrary(In("torch/lib/libc11.so")));
  EXPECT_FALSE(list.HasLibrary(In("nottorch/lib/libc10.so")));
  EXPECT_FALSE(list.HasLibrary(In("other/torch/lib/libc10.so"))) << "of another folder's torch";
  EXPECT_THAT(list.ToReadAgain(), IsEmpty());
}

TEST_F(KnownListTest, TellsWhatVariablesALibraryReads) {
  KnownList list("list.txt",
                 "torch/lib/libc10 torch==2.12.0\n"
                 "torch/lib/libc10 reads:A_,b_ torch==2.13.0\ntorch/lib/libtorch torch==2.13.0\n");
  Install("torch-2.13.0.dist-info");
  EXPECT_TRUE(list.HasLibrary(In(kLibC10)));
  EXPECT_THAT(list.ReadBy(In(kLibC10)), ElementsAre("A_", "b_"));
  EXPECT_TRUE(list.HasLibrary(In("torch/lib/libtorch.so")));
  EXPECT_THAT(list.ReadBy(In("torch/lib/libtorch.so")), IsEmpty());
}

TEST_F(KnownListTest, VouchesForSomeTypesOfALibrary) {
  KnownList list("list.txt",
                 "torch/lib/libc10 types:a.Row,Cell torch==2.13.0\n"
                 "torch/lib/libtorch torch==2.13.0\nfunction cython-abi==3_2_4,3_3_1\n");
  Install("torch-2.13.0.dist-info");
  ASSERT_TRUE(list.HasLibrary(In(kLibC10)));
  EXPECT_TRUE(list.HasTypeOf(In(kLibC10), "a.Row"));
  EXPECT_TRUE(list.HasTypeOf(In(kLibC10), "Cell"));
  EXPECT_FALSE(list.HasTypeOf(In(kLibC10), "Row"));
  ASSERT_TRUE(list.HasLibrary(In("torch/lib/libtorch.so")));
  EXPECT_TRUE(list.HasTypeOf(In("torch/lib/libtorch.so"), "Row")) << "all of them";
  EXPECT_TRUE(list.HasProof("function", "cython-abi", "3_3_1"));
  EXPECT_FALSE(list.HasProof("function", "cython-abi", "3_3_2"));
  EXPECT_FALSE(list.HasProof("generator", "cython-abi", "3_3_1"));
}

TEST_F(KnownListTest, SaysWhichVersionHasToBeRead) {
  KnownList list("list.txt", "otherwise all of it\ntorch/lib/libc10 torch==2.12.0,2.13.0\n");
  Install("torch-2.13.1.dist-info");
  EXPECT_FALSE(list.HasLibrary(In(kLibC10)));
  EXPECT_THAT(list.ToReadAgain(),
              ElementsAre("list.txt knows torch 2.12.0, 2.13.0, here is 2.13.1: it has to be read "
                          "again; until then all of it"));
}

TEST_F(KnownListTest, DoesNotVouchWithoutAProof) {
  KnownList list("list.txt", "torch/lib/libc10 torch==2.13.0\nnumpy/core/a numpy\nbare\n");
  EXPECT_FALSE(list.HasLibrary(In(kLibC10))) << "no dist-info";
  EXPECT_FALSE(list.HasLibrary(In("numpy/core/a.so"))) << "a line with no version";
  EXPECT_FALSE(list.HasLibrary(In("bare.so")));
  EXPECT_TRUE(list.Names("bare"));
  EXPECT_THAT(list.ToReadAgain(), IsEmpty());
}

TEST_F(KnownListTest, SeesThatAnotherVersionIsInstalledMeanwhile) {
  KnownList list("list.txt", "torch/lib/a torch==2.13.0\ntorch/lib/b torch==2.13.0\n");
  Install("torch-2.13.0.dist-info");
  EXPECT_TRUE(list.HasLibrary(In("torch/lib/a.so")));
  std::filesystem::rename(root_ / "torch-2.13.0.dist-info", root_ / "torch-2.14.0.dist-info");
  std::filesystem::last_write_time(root_, std::filesystem::file_time_type::clock::now());
  EXPECT_FALSE(list.HasLibrary(In("torch/lib/b.so")));
}

TEST_F(KnownListTest, TwoVersionsAreNone) {
  KnownList list("list.txt", "torch/lib/libc10 torch==2.13.0\n");
  Install("torch-2.13.0.dist-info");
  Install("torch-2.12.0.dist-info");
  EXPECT_FALSE(list.HasLibrary(In(kLibC10)));
}

TEST_F(KnownListTest, ReadsEveryKindOfRecord) {
  KnownList list("list.txt",
                 "scikit_learn.libs/libgomp scikit-learn==1.9.1\nold.module old-one==1.2\n");
  Install("Scikit.Learn-1.9.1.dist-info");
  Install("old_one-1.2-py3.11.egg-info");
  EXPECT_TRUE(list.HasLibrary(In("scikit_learn.libs/libgomp-e985bcbb.so.1.0.0")));
  EXPECT_TRUE(list.HasModule("old.module", In("old/module.py")));
}

TEST_F(KnownListTest, KnowsModulesByTheirFiles) {
  KnownList list("list.txt", "dask.delayed dask==1\ndask dask==1\na.b:function dask==1\n");
  Install("dask-1.dist-info");
  EXPECT_TRUE(list.HasModule("dask.delayed", In("dask/delayed.py")));
  EXPECT_TRUE(list.HasModule("dask.delayed", In("dask/delayed.cpython-311-x86_64-linux-gnu.so")));
  EXPECT_TRUE(list.HasModule("dask", In("dask/__init__.py")));
  EXPECT_TRUE(list.HasModule("a.b:function", In("a/b.py")));
  EXPECT_FALSE(list.HasModule("a.b:other", In("a/b.py")));
  EXPECT_FALSE(list.HasModule("dask.delayed", In("elsewhere/dask/delayed.py")));
  EXPECT_FALSE(list.HasModule("dask.delayed", ""));
}

TEST_F(KnownListTest, KnowsCPythonsOwnByTheirFolder) {
  KnownList list("list.txt",
                 "random cpython==3.10,3.11\nlib-dynload/_json cpython==3.11\n"
                 "_sqlite3 cpython==3.11\n");
  EXPECT_TRUE(list.HasModule("random", "/usr/lib/python3.11/random.py"));
  EXPECT_FALSE(list.HasModule("random", "/usr/lib/python3.14/random.py"));
  EXPECT_FALSE(list.HasModule("random", "/home/me/random.py"));
  const std::string folder = "/usr/lib/python3.11/lib-dynload/";
  EXPECT_TRUE(list.HasModule("_sqlite3", folder + "_sqlite3.cpython-311-x86_64-linux-gnu.so"));
  EXPECT_TRUE(list.HasLibrary(folder + "_json.cpython-311-x86_64-linux-gnu.so"));
  EXPECT_FALSE(list.HasLibrary("/usr/lib/python3.10/lib-dynload/_json.so"));
  EXPECT_THAT(list.ToReadAgain(), ElementsAre("list.txt knows cpython 3.10, 3.11, here is 3.14: it "
                                              "has to be read again",
                                              "list.txt knows cpython 3.11, here is 3.10: it has "
                                              "to be read again"));
}

struct Loaded {
  std::string path, id;
};

// The C library, as it is loaded here.
Loaded CLibrary() {
  Loaded loaded;
  dl_iterate_phdr(
      [](dl_phdr_info* object, size_t, void* to) {
        const std::string_view path = object->dlpi_name;
        if (path.find("/libc.so") == path.npos) return 0;
        auto* loaded = static_cast<Loaded*>(to);
        loaded->path = path;
        for (const char byte : BuildId(*object)) {
          char digits[3];
          std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(byte));
          loaded->id += digits;
        }
        return 1;
      },
      &loaded);
  return loaded;
}

TEST_F(KnownListTest, KnowsALoadedLibraryByItsBuildId) {
  const Loaded library = CLibrary();
  ASSERT_EQ(library.id.size(), 40u);
  KnownList list("list.txt", "libc build-id==" + std::string(40, '0') + "," + library.id + "\n");
  EXPECT_TRUE(list.HasLibrary(library.path));
  KnownList other("list.txt", "libc build-id==" + std::string(40, '0') + "\n");
  other.ProveLoaded();
  EXPECT_THAT(other.ToReadAgain(),
              ElementsAre("list.txt knows other builds of libc than " + library.path +
                          ", build-id " + library.id + ": it has to be read again"));
  EXPECT_FALSE(other.HasLibrary("/lib/libc.so.7")) << "not loaded";
}

}  // namespace
}  // namespace pylaunch::engine
