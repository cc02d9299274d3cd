#include "image/collection.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <utility>
#include <vector>

#include "image/format.h"
#include "image/image_files.h"
#include "image/packed_proofs.h"

extern char** environ;

namespace pylaunch::image {
namespace {

namespace fs = std::filesystem;

class CollectionTest : public testing::Test {
 protected:
  CollectionTest() {
    std::string name = testing::TempDir() + "collection-XXXXXX";
    folder_ = mkdtemp(name.data());
  }
  ~CollectionTest() override { fs::remove_all(folder_); }

  // A file of this size that consists of holes, but for these bytes.
  std::string Sparse(const std::string& name, uint64_t size,
                     const std::vector<std::pair<uint64_t, std::string>>& parts) {
    const std::string path = folder_ + "/" + name;
    const int fd = open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600);
    EXPECT_EQ(ftruncate(fd, static_cast<off_t>(size)), 0);
    for (const auto& [at, bytes] : parts) {
      EXPECT_EQ(pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(at)),
                static_cast<ssize_t>(bytes.size()));
    }
    close(fd);
    return path;
  }

  // An image whose key holds here and now, but for what `change` does.
  template <typename Change>
  std::string MakeImage(const std::string& name, const Change& change) {
    const std::string image = Sparse(name + ".img", 3 * kPage, {{kPage, "x"}});
    Key key;
    key.facts = MachineFacts();
    key.facts.push_back({"python", "/proc/self/exe"});
    key.facts.push_back({"engine", "/proc/self/exe"});
    key.facts.push_back({"restorer", Text(StateOf("/proc/self/" + std::string(kRestorer)))});
    key.facts.push_back({"engine file", Text(StateOf("/proc/self/exe"))});
    key.reads.all = "x";
    for (Fact& fact : Counting(EnvironmentFacts(environ), key.reads)) {
      key.facts.push_back(std::move(fact));
    }
    key.image = StateOf(image);
    key.content = *ContentHash(image);
    change(&key);
    const std::string path = folder_ + "/" + name + ".key";
    std::ofstream(path) << key.Serialize();
    fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write);
    return image;
  }
  static void Set(Key* key, const std::string& name, const std::string& value) {
    for (Fact& fact : key->facts) {
      if (fact.name == name) fact.value = value;
    }
  }

  std::string folder_;
};

TEST_F(CollectionTest, HashIsOfTheBytesAndNotOfTheHoles) {
  const uint64_t size = 5'000'000;  // No whole page; more than one read.
  const auto base = ContentHash(Sparse("a", size, {{8192, "x"}, {4'999'999, "y"}}));
  ASSERT_TRUE(base);
  EXPECT_EQ(base, ContentHash(Sparse("b", size, {{4'999'999, "y"}, {8192, "x"}})));
  const std::string zeros(1'000'000, '\0');
  EXPECT_EQ(base,
            ContentHash(Sparse("c", size, {{2'000'000, zeros}, {8192, "x"}, {4'999'999, "y"}})));
  EXPECT_NE(base, ContentHash(Sparse("d", size, {{8193, "x"}, {4'999'999, "y"}})));
  EXPECT_NE(base, ContentHash(Sparse("e", size, {{12'288, "x"}, {4'999'999, "y"}}))) << "moved";
  EXPECT_NE(base, ContentHash(Sparse("f", size, {{8192, "x"}})));
  EXPECT_NE(base, ContentHash(Sparse("g", size + 4096, {{8192, "x"}, {4'999'999, "y"}})));
  EXPECT_TRUE(ContentHash(Sparse("h", 0, {})));
  EXPECT_FALSE(ContentHash(folder_ + "/absent"));
  EXPECT_FALSE(ContentHash(folder_));
}

TEST_F(CollectionTest, StandingIsWhatIsFirstToDiffer) {
  using cache::Standing;
  const std::string alive = MakeImage("a", [](Key*) {});
  const std::string other = MakeImage("b", [](Key* key) {
    key->facts.push_back({"variable ?", "1"});
  });
  const std::string stale = MakeImage("c", [](Key* key) {
    key->files = PackProofs({{"/proc/self/no", {{1, 2, 3, 4, 5}, {}}}});
  });
  const std::string boot = MakeImage("d", [](Key* key) { Set(key, "boot id", "another"); });
  const std::string gone = MakeImage("e", [](Key* key) { Set(key, "python", "/no/python"); });
  const std::string rebuilt = MakeImage("f", [](Key* key) { Set(key, "engine file", "1 2"); });
  MakeImage("g", [](Key* key) { Set(key, "restorer", "1 2"); });
  const auto found = Collect(cache::PosixFileEnv(), folder_, environ, /*check=*/true);
  ASSERT_TRUE(found);
  std::ofstream(alive, std::ios::app) << "x";
  EXPECT_EQ(Judge(alive, /*gone_is_dead=*/true), Standing::kStale);
  ASSERT_EQ(found->images.size(), 7u);
  const std::pair<Standing, std::string> expected[] = {{Standing::kAlive, ""},
                                                       {Standing::kAlive, "variable ? is gone"},
                                                       {Standing::kStale, "/proc/self/no changed"},
                                                       {Standing::kDead, "boot id changed"},
                                                       {Standing::kDead, "/no/python is gone"},
                                                       {Standing::kDead, "/proc/self/exe changed"}};
  for (size_t i = 0; i < std::size(expected); ++i) {
    EXPECT_EQ(found->images[i].standing, expected[i].first) << i;
    EXPECT_EQ(found->images[i].difference, expected[i].second) << i;
    EXPECT_TRUE(found->images[i].wrong.empty()) << i;
  }
  EXPECT_EQ(found->images[6].difference, "/proc/self/pylaunch-restore changed");
  // Somebody in a container may see what this process does not; not another boot.
  for (const std::string& image : {gone, rebuilt}) {
    EXPECT_EQ(Judge(image, /*gone_is_dead=*/false), Standing::kStale);
    EXPECT_EQ(Judge(image, /*gone_is_dead=*/true), Standing::kDead);
  }
  EXPECT_EQ(Judge(boot, /*gone_is_dead=*/false), Standing::kDead);
  EXPECT_EQ(Judge(other, /*gone_is_dead=*/true), Standing::kAlive);
  EXPECT_EQ(Judge(folder_ + "/absent.img", true), Standing::kUnknown);
}

TEST_F(CollectionTest, ImagesWithoutKeyNotesAndTemporaryFilesAreNoImages) {
  MakeImage("a", [](Key*) {});
  Sparse("b.img", 1, {});
  Sparse("c.img.123-0123abcd.tmp", 1, {});
  std::ofstream(folder_ + "/d.note") << "threads are left: x";
  const auto found = Collect(cache::PosixFileEnv(), folder_, environ, /*check=*/false);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->images.size(), 1u);
  EXPECT_EQ(found->temporary.size(), 2u);
  ASSERT_EQ(found->notes.size(), 1u);
  EXPECT_EQ(found->notes[0].why, "threads are left: x");
  EXPECT_TRUE(Collect(cache::PosixFileEnv(), folder_ + "/absent", environ, false));
}

}  // namespace
}  // namespace pylaunch::image
