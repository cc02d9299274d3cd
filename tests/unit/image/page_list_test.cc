#include "image/page_list.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "image/format.h"

namespace pylaunch::image {
namespace {

namespace fs = std::filesystem;

PageList Some() { return {{{"", {{0, 3}, {30, 31}}}, {"/lib/x.so", {{7, 9}}}}}; }

TEST(PageList, IsReadAsItWasWritten) {
  const PageList list = Some();
  const auto parsed = PageList::Parse(list.Serialize());
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->files, list.files);
  EXPECT_EQ(parsed->bytes(), 6 * kPage);
}

TEST(PageList, DamageIsNoticed) {
  const std::string bytes = Some().Serialize();
  EXPECT_FALSE(PageList::Parse(""));
  EXPECT_FALSE(PageList::Parse(bytes + "x"));
  for (size_t at = 0; at < bytes.size(); ++at) {
    std::string other = bytes;
    other[at] ^= 1;
    EXPECT_FALSE(PageList::Parse(other)) << at;
    EXPECT_FALSE(PageList::Parse(bytes.substr(0, at))) << at;
  }
}

// A file that this process maps as it would its image.
class PagesOfThisProcessTest : public testing::Test {
 protected:
  static constexpr size_t kPages = 4096;

  PagesOfThisProcessTest() {
    std::string name = testing::TempDir() + "pages-XXXXXX";
    folder_ = mkdtemp(name.data());
    image_ = folder_ + "/a.img";
    std::ofstream(image_, std::ios::binary) << std::string(kPages * kPage, 'x');
    const int fd = open(image_.c_str(), O_RDONLY);
    void* memory = mmap(nullptr, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    memory_ = static_cast<volatile char*>(memory);
    close(fd);
  }
  ~PagesOfThisProcessTest() override {
    munmap(const_cast<char*>(memory_), kPages * kPage);
    fs::remove_all(folder_);
  }

  void Read(size_t page) { (void)memory_[page * kPage]; }
  void Write(size_t page) { memory_[page * kPage] = 'y'; }

  std::string folder_, image_;
  volatile char* memory_;
};

bool Has(const PageList& list, uint64_t page) {
  for (const PageRun& run : list.files.front().runs) {
    if (run.first <= page && page < run.last) return true;
  }
  return false;
}

TEST_F(PagesOfThisProcessTest, AreThoseReadAndWritten) {
  Read(10);
  Write(2000);
  PageList list;
  ASSERT_TRUE(list.AddThisProcess(image_));
  ASSERT_FALSE(list.files.empty());
  EXPECT_EQ(list.files.front().path, "");
  EXPECT_TRUE(Has(list, 10));
  EXPECT_TRUE(Has(list, 2000));
  EXPECT_FALSE(Has(list, 1000)) << "nobody has asked for it";
  EXPECT_LT(list.files.front().runs.size(), 3u);
  EXPECT_GT(list.files.size(), 1u) << "this program and its libraries are mapped, too";
}

TEST_F(PagesOfThisProcessTest, AreAPartOfTheFileWhereThatPartIsMapped) {
  munmap(const_cast<char*>(memory_), 100 * kPage);
  Write(3000);
  PageList list;
  ASSERT_TRUE(list.AddThisProcess(image_));
  EXPECT_EQ(list.files.front().runs, (std::vector<PageRun>{{3000, 3001}}));
}

TEST_F(PagesOfThisProcessTest, ComeToThoseOfBefore) {
  PageList list = Some();
  Write(3000);
  ASSERT_TRUE(list.AddThisProcess(image_));
  EXPECT_EQ(list.files.front().runs, (std::vector<PageRun>{{0, 3}, {30, 31}, {3000, 3001}}));
  EXPECT_EQ(std::count(list.files.begin(), list.files.end(), Some().files[1]), 1)
      << "unmapped meanwhile";
}

TEST_F(PagesOfThisProcessTest, AnotherFileInItsPlaceIsNotTheImage) {
  fs::copy_file(image_, folder_ + "/b");
  fs::rename(folder_ + "/b", image_);
  PageList list = Some();
  EXPECT_FALSE(list.AddThisProcess(image_));
  EXPECT_EQ(list.files, Some().files);
}

// The beginning of an image's file.
class PageListFileTest : public testing::Test {
 protected:
  PageListFileTest() {
    std::string name = testing::TempDir() + "list-XXXXXX";
    folder_ = mkdtemp(name.data());
    image_ = folder_ + "/a.img";
    Header header = {};
    header.format = kFormat;
    header.file_size = 3 * kPage;
    std::string bytes(3 * kPage, 'x');
    std::memcpy(bytes.data(), &header, sizeof header);
    std::ofstream(image_, std::ios::binary) << bytes;
  }
  ~PageListFileTest() override { fs::remove_all(folder_); }

  std::optional<PageList> Read() const {
    const int fd = open(image_.c_str(), O_RDONLY);
    const auto list = ReadPageList(fd);
    close(fd);
    return list;
  }
  void Change(size_t at, char by) const {
    std::fstream file(image_, std::ios::binary | std::ios::in | std::ios::out);
    file.seekg(static_cast<std::streamoff>(at));
    const char was = static_cast<char>(file.get());
    file.seekp(static_cast<std::streamoff>(at));
    file.put(static_cast<char>(was ^ by));
  }

  std::string folder_, image_;
};

TEST_F(PageListFileTest, ComesBehindThePages) {
  EXPECT_FALSE(Read());
  ASSERT_TRUE(AppendPageList(image_, Some().Serialize()));
  const auto list = Read();
  ASSERT_TRUE(list);
  EXPECT_EQ(list->files, Some().files);
  EXPECT_EQ(fs::file_size(image_), 4 * kPage);
  Header header;
  std::ifstream(image_, std::ios::binary).read(reinterpret_cast<char*>(&header), sizeof header);
  EXPECT_EQ(header.file_size, 4 * kPage) << "what the restorer compares";
  EXPECT_EQ(header.needed_offset, 3 * kPage);
}

TEST_F(PageListFileTest, DamageIsNoticed) {
  ASSERT_TRUE(AppendPageList(image_, Some().Serialize()));
  for (const size_t at :
       {3 * kPage, 3 * kPage + 9, offsetof(Header, format), offsetof(Header, needed_offset),
        offsetof(Header, needed_size), offsetof(Header, needed_size) + 7}) {
    Change(at, 1);
    EXPECT_FALSE(Read()) << at;
    Change(at, 1);
    EXPECT_TRUE(Read()) << at;
  }
  fs::resize_file(image_, 3 * kPage + 10);
  EXPECT_FALSE(Read());
  fs::resize_file(image_, 10);
  EXPECT_FALSE(Read());
}

TEST_F(PageListFileTest, NobodyIsToReadMoreThanALimit) {
  PageList list = Some();
  list.files[0].runs = {{0, kMostListedBytes / kPage + 1}};
  ASSERT_TRUE(AppendPageList(image_, list.Serialize()));
  EXPECT_FALSE(Read());
}

}  // namespace
}  // namespace pylaunch::image
