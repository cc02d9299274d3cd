#include "image/content_proof.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "image/digests.h"
#include "image/packed_proofs.h"

namespace pylaunch::image {
namespace {

namespace fs = std::filesystem;

class ContentProofTest : public testing::Test {
 protected:
  ContentProofTest() {
    std::string name = testing::TempDir() + "content-XXXXXX";
    folder_ = mkdtemp(name.data());
  }
  ~ContentProofTest() override { fs::remove_all(folder_); }

  std::string Write(const std::string& name, const std::string& bytes) {
    const std::string path = folder_ + "/" + name;
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }

  std::string folder_;
};

TEST_F(ContentProofTest, IsThatOfTheBytesAndNotOfThePlace) {
  const auto proof = ContentProofOf(Write("a", "some"), false);
  ASSERT_TRUE(proof);
  EXPECT_EQ(proof, ContentProofOf(Write("b", "some"), false));
  EXPECT_NE(proof, ContentProofOf(Write("c", "same"), false));
  EXPECT_NE(proof, ContentProofOf(Write("d", ""), false));
  EXPECT_EQ(proof->bytes, cache::DigestOf("some"));
}

TEST_F(ContentProofTest, LargeFilesAreReadToTheEnd) {
  std::string bytes(5'000'001, 'x');
  const auto proof = ContentProofOf(Write("a", bytes), false);
  EXPECT_EQ(proof->bytes, cache::DigestOf(bytes));
  for (const size_t at : {size_t{0}, size_t{2'500'000}, bytes.size() - 1}) {
    std::string other = bytes;
    other[at] = 'y';
    EXPECT_NE(ContentProofOf(Write("b", other), false), proof) << at;
  }
}

TEST_F(ContentProofTest, RightsAndAttributesCount) {
  const std::string path = Write("a", "some");
  const auto proof = ContentProofOf(path, false);
  chmod(path.c_str(), 0600 | S_IXUSR);
  EXPECT_NE(ContentProofOf(path, false), proof);
  chmod(path.c_str(), proof->rights.mode & 07777);
  EXPECT_EQ(ContentProofOf(path, false), proof);
  if (setxattr(path.c_str(), "user.q", "1", 1, 0) != 0) GTEST_SKIP() << "no attributes here";
  const auto one = ContentProofOf(path, false);
  EXPECT_NE(one, proof);
  setxattr(path.c_str(), "user.q", "2", 1, 0);
  EXPECT_NE(ContentProofOf(path, false), one);
  removexattr(path.c_str(), "user.q");
  EXPECT_EQ(ContentProofOf(path, false), proof);
}

TEST_F(ContentProofTest, OfALinkItsText) {
  const std::string path = folder_ + "/link";
  fs::create_symlink("there", path);
  const auto proof = ContentProofOf(path, true);
  ASSERT_TRUE(proof);
  EXPECT_EQ(proof->bytes, cache::DigestOf("there"));
  EXPECT_FALSE(ContentProofOf(path, false)) << "what it leads to is not there";
  // Asked about as a link, and is none.
  const std::string file = Write("a", "some");
  EXPECT_EQ(ContentProofOf(file, true), ContentProofOf(file, false));
}

TEST_F(ContentProofTest, WhatIsNoFileHasNone) {
  EXPECT_FALSE(ContentProofOf(folder_, false));
  EXPECT_FALSE(ContentProofOf(folder_ + "/none", false));
  EXPECT_FALSE(ContentProofOf("/dev/null", false));
  const std::string pipe = folder_ + "/pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_FALSE(ContentProofOf(pipe, false)) << "and nobody waits for a writer";
}

// This program is linked with a build-id, as Debian's GCC does.
TEST_F(ContentProofTest, OfALibraryWithABuildIdTheEnds) {
  std::ifstream file("/proc/self/exe", std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(file), {}};
  ASSERT_GT(bytes.size(), size_t{1} << 20);
  const auto proof = ContentProofOf(Write("a", bytes), false);
  EXPECT_NE(proof->bytes, cache::DigestOf(bytes)) << "it was read to the end";
  for (const size_t at : {size_t{0x40}, bytes.size() - 1}) {
    std::string other = bytes;
    other[at] = static_cast<char>(other[at] ^ 1);
    EXPECT_NE(ContentProofOf(Write("b", other), false), proof) << at;
  }
  // Without its magic number it is any file.
  bytes[0] = 'x';
  EXPECT_EQ(ContentProofOf(Write("c", bytes), false)->bytes, cache::DigestOf(bytes));
}

TEST_F(ContentProofTest, OfALibraryWithABuildIdOnlyItsEndsAreRead) {
  struct statfs file_system;
  if (statfs(folder_.c_str(), &file_system) != 0 || file_system.f_type == TMPFS_MAGIC) {
    GTEST_SKIP() << "no disk below it";
  }
  const std::string path = folder_ + "/library";
  fs::copy_file("/proc/self/exe", path);
  const size_t size = fs::file_size(path);
  ASSERT_GT(size, size_t{2} << 20);
  const int fd = open(path.c_str(), O_RDONLY);
  fsync(fd);
  posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  ASSERT_TRUE(ContentProofOf(path, false));
  void* memory = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  std::vector<unsigned char> pages((size + 4095) / 4096);
  ASSERT_EQ(mincore(memory, size, pages.data()), 0);
  munmap(memory, size);
  const auto read = std::count_if(pages.begin(), pages.end(), [](auto page) { return page & 1; });
  EXPECT_GE(read, 32);
  EXPECT_LE(read, 34) << "two times 64 KiB";
}

TEST_F(ContentProofTest, DigestsAreOfFilesAsTheyWereProved) {
  const std::string a = Write("a", "some"), none = folder_ + "/none";
  const std::vector<FileProof> files = {
      {a, AskedOf(a, false), false}, {folder_, AskedOf(folder_, false), false}, {none, {}, false}};
  const std::string packed = PackProofs(files);
  const auto digests = TakeDigests(packed);
  ASSERT_TRUE(digests);
  EXPECT_EQ(digests->proofs, DigestsId(packed));
  ASSERT_EQ(digests->files.size(), 3u);
  const std::vector<FileProof> unpacked = UnpackProofs(packed);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(digests->files[i] != ContentProof(), unpacked[i].path == a) << unpacked[i].path;
    EXPECT_EQ(HasContent(unpacked[i].state), unpacked[i].path == a);
  }
  const auto parsed = Digests::Parse(digests->Serialize());
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->files, digests->files);
  std::string bytes = digests->Serialize();
  EXPECT_FALSE(Digests::Parse(bytes.substr(0, bytes.size() - 1)));
  for (const size_t at : {size_t{0}, size_t{8}, size_t{12}, bytes.size() - 1}) {
    std::string other = bytes;
    other[at] = static_cast<char>(other[at] ^ 1);
    EXPECT_FALSE(Digests::Parse(other)) << at;
  }
  EXPECT_FALSE(Digests::Parse(""));
  Write("a", "else");
  EXPECT_FALSE(TakeDigests(packed)) << "it is another one by now";
}

}  // namespace
}  // namespace pylaunch::image
