#include "image/key.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "image/image_files.h"
#include "image/packed_proofs.h"

namespace pylaunch::image {
namespace {

namespace fs = std::filesystem;

class KeyTest : public testing::Test {
 protected:
  KeyTest() {
    std::string name = testing::TempDir() + "key-XXXXXX";
    folder_ = mkdtemp(name.data());
  }
  ~KeyTest() override { fs::remove_all(folder_); }

  std::string Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name) << text;
    return folder_ + "/" + name;
  }

  // Long after every change, so that states prove something.
  static constexpr int64_t kLater = int64_t{1} << 62;
  std::string folder_;
};

Key Sample() {
  Key key;
  key.facts = {{"boot id", "1"}, {"variable HOME", "2"}};
  key.reads = {{"HOME", "NOT_SET"}, {"TQDM_"}, "x"};
  key.asked = {"working directory"};
  key.files = PackProofs({{"/a", {{1, 2, 3, 4, 5}, {}}}});
  key.folders = {{"/b", {{1, 2, 3, 4, 5}, {}}, 6, true}};
  key.image = {{5, 4, 3, 2, 1}, {}};
  key.table = 7;
  key.table_size = 8;
  key.content = 9;
  key.late = {"a", "b"};
  return key;
}

TEST_F(KeyTest, ComesBackAsItWas) {
  const std::optional<Key> key = Key::Parse(Sample().Serialize());
  ASSERT_TRUE(key.has_value());
  EXPECT_EQ(key->facts, Sample().facts);
  EXPECT_EQ(key->files, Sample().files);
  EXPECT_EQ(key->folders[0].path, "/b");
  EXPECT_TRUE(key->folders[0].all);
  EXPECT_EQ(key->image, Sample().image);
  EXPECT_EQ(key->table_size, 8u);
  EXPECT_EQ(key->content, 9u);
  EXPECT_EQ(key->late, Sample().late);
  EXPECT_EQ(key->reads.names, Sample().reads.names);
  EXPECT_EQ(key->reads.prefixes, Sample().reads.prefixes);
  EXPECT_EQ(key->reads.all, "x");
  EXPECT_EQ(key->asked, Sample().asked);
}

TEST_F(KeyTest, HeadIsReadFromTheFirstBytesAlone) {
  const std::string bytes = Sample().Serialize();
  const size_t size = Key::HeadSize(bytes.substr(0, Key::kHeadPrefix));
  ASSERT_LT(size, bytes.size());
  const std::optional<KeyHead> head = Key::ParseHead(bytes.substr(0, size));
  ASSERT_TRUE(head.has_value());
  EXPECT_EQ(head->facts, Sample().facts);
  EXPECT_FALSE(Key::ParseHead(bytes.substr(0, size - 1)).has_value());
  EXPECT_EQ(Key::HeadSize(bytes.substr(0, Key::kHeadPrefix - 1)), 0u);
}

TEST_F(KeyTest, EveryFlippedBitAndEveryTruncationIsNoticed) {
  const std::string good = Sample().Serialize();
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 4);
    EXPECT_FALSE(Key::Parse(bad).has_value()) << "byte " << i;
    EXPECT_FALSE(Key::Parse(good.substr(0, i)).has_value()) << "first " << i;
  }
}

TEST_F(KeyTest, DifferenceNamesTheFact) {
  const Facts made = {{"boot id", "1"}, {"variable A", "x"}};
  EXPECT_EQ(Difference(made, made), "");
  EXPECT_EQ(Difference(made, {{"boot id", "2"}, {"variable A", "x"}}), "boot id changed");
  EXPECT_EQ(Difference(made, {{"boot id", "1"}}), "variable A is gone");
  EXPECT_EQ(Difference({{"boot id", "1"}}, made), "variable A is new");
}

TEST_F(KeyTest, ChangedReplacedAndNewFilesAreNamed) {
  const std::string path = Write("m.py", "x = 1");
  Key key;
  key.files = PackProofs({{path, StateOf(path)}, {folder_ + "/absent", FileState()}});
  EXPECT_EQ(FirstChange(key), "");
  Write("absent", "");
  EXPECT_EQ(FirstChange(key), folder_ + "/absent changed");
  fs::remove(folder_ + "/absent");
  struct stat st;
  ASSERT_EQ(stat(path.c_str(), &st), 0);
  Write("m.py", "x = 2");
  const timespec times[2] = {st.st_atim, st.st_mtim};
  ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), times, 0), 0);  // Same size, same mtime.
  EXPECT_EQ(FirstChange(key), path + " changed");
}

TEST_F(KeyTest, FolderHoldsWhileNoImportableNameComesOrGoes) {
  Write("m.py", "");
  Key key;
  key.folders = {ProveFolder(folder_, kLater, /*all=*/false)};
  EXPECT_EQ(FirstChange(key), "");
  Write("results.json", "");
  Write("log", "");
  fs::create_directory(folder_ + "/train-output");
  fs::create_directory(folder_ + "/__pycache__");
  EXPECT_EQ(FirstChange(key), "");
  fs::create_directory(folder_ + "/package");
  EXPECT_NE(FirstChange(key), "");
  fs::remove(folder_ + "/package");
  EXPECT_EQ(FirstChange(key), "");
  for (const char* name :
       {"n.py", "n.cpython-311-x86_64-linux-gnu.so", "n.pth", "n.start", "n-1.dist-info"}) {
    Write(name, "");
    EXPECT_NE(FirstChange(key), "") << name;
    fs::remove(folder_ + "/" + name);
  }
  fs::remove(folder_ + "/m.py");
  EXPECT_NE(FirstChange(key), "");
}

TEST_F(KeyTest, ListedFolderHoldsWhileNoNameComesOrGoes) {
  Key key;
  key.folders = {ProveFolder(folder_, kLater, /*all=*/true)};
  Write("log", "");
  EXPECT_NE(FirstChange(key), "");
  fs::remove(folder_ + "/log");
  EXPECT_EQ(FirstChange(key), "");
}

TEST_F(KeyTest, AnyFileWithAModuleSuffixIsImportable) {
  for (const char* name : {"m.py", "my-plugin.py", "0002_more.py", "a b.so", "x.abi3.so", "m"}) {
    EXPECT_TRUE(IsImportable(name)) << name;
  }
  for (const char* name : {"", ".py", "train-output", "0002", "a.txt", "a.b.py", "__pycache__"}) {
    EXPECT_FALSE(IsImportable(name)) << name;
  }
}

TEST_F(KeyTest, FolderMadeAnewIsAsGoodButForItsModeAndNames) {
  const std::string path = folder_ + "/searched";
  fs::create_directory(path);
  Key key;
  key.folders = {ProveFolder(path, kLater, /*all=*/false)};
  fs::rename(path, folder_ + "/away");
  fs::create_directory(path);
  EXPECT_EQ(FirstChange(key), "");
  fs::permissions(path, fs::perms::owner_all);
  EXPECT_EQ(FirstChange(key), path + " changed");
  fs::permissions(path, fs::status(folder_ + "/away").permissions());
  EXPECT_EQ(FirstChange(key), "");
  std::ofstream(path + "/module.py") << "";
  EXPECT_EQ(FirstChange(key), "the names in " + path + " changed");
}

TEST_F(KeyTest, AskableFactsCountIfAsked) {
  const Facts askable = {{"working directory", "/a"}, {"arguments", "1"}};
  EXPECT_TRUE(Asked(askable, {}).empty());
  EXPECT_EQ(Asked(askable, {"working directory"}), Facts({askable[0]}));
}

TEST_F(KeyTest, AbsentFolderThatComesIsNoticed) {
  Key key;
  key.folders = {ProveFolder(folder_ + "/later", kLater, /*all=*/false)};
  EXPECT_EQ(FirstChange(key), "");
  fs::create_directory(folder_ + "/later");
  EXPECT_NE(FirstChange(key), "");
}

TEST(EnvironmentFacts, HoldNoValues) {
  std::string home = "HOME=/home/secret";
  char* one[] = {home.data(), nullptr};
  const Facts facts = EnvironmentFacts(one);
  ASSERT_EQ(facts.size(), 1u);
  EXPECT_EQ(facts[0].name, "variable HOME");
  EXPECT_EQ(facts[0].value.find("secret"), std::string::npos);
  std::string other = "A=1";
  char* two[] = {other.data(), home.data(), nullptr};
  char* turned[] = {home.data(), other.data(), nullptr};
  EXPECT_EQ(EnvironmentFacts(two), EnvironmentFacts(turned));
}

TEST(Counting, TakesWhatWasReadAndWhatIsReadUnseen) {
  const Facts all = {{"variable A", "1"},          {"variable B", "2"},
                     {"variable LC_TIME", "3"},    {"variable PYLAUNCH_PRELOAD", "0"},
                     {"variable PYTHONPATH", "4"}, {"variable SHLVL", "5"},
                     {"variable TZ", "6"}};
  const auto names = [&all](const VariableReads& reads) {
    std::string names;
    for (const Fact& fact : Counting(all, reads)) names += fact.name.substr(9) + " ";
    return names;
  };
  EXPECT_EQ(names({}), "LC_TIME PYTHONPATH TZ ");
  EXPECT_EQ(names({{"B", "NONE"}, {}, ""}), "B LC_TIME PYTHONPATH TZ ");
  EXPECT_EQ(names({{}, {"S"}, ""}), "LC_TIME PYTHONPATH SHLVL TZ ");
  EXPECT_EQ(names({{}, {}, "x"}), "A B LC_TIME PYTHONPATH TZ ");
  EXPECT_EQ(names({{"SHLVL"}, {}, "x"}), "A B LC_TIME PYTHONPATH SHLVL TZ ") << "asked for by name";
  EXPECT_EQ(names({{"PYLAUNCH_PRELOAD"}, {}, ""}), "LC_TIME PYLAUNCH_PRELOAD PYTHONPATH TZ ");
}

TEST(MachineFacts, AreTheSameTwice) {
  EXPECT_EQ(Difference(MachineFacts(), MachineFacts()), "");
  for (const Fact& fact : MachineFacts()) {
    if (fact.name == "ignored signals") continue;
    EXPECT_NE(fact.value, "") << fact.name;
  }
}

TEST(FilesFor, OneCommandOneFamilyOneStateOneImage) {
  const Facts command = {{"python", "p"}};
  const ImageFiles a = FilesFor("/c", command, {{"boot id", "1"}});
  const ImageFiles b = FilesFor("/c", command, {{"boot id", "2"}});
  EXPECT_EQ(a.family, b.family);
  EXPECT_NE(a.image, b.image);
  EXPECT_NE(a.family, FilesFor("/c", {{"python", "q"}}, {}).family);
}

}  // namespace
}  // namespace pylaunch::image
