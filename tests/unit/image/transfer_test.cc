#include "image/transfer.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>

#include "cache/transfer.h"
#include "cache/wire.h"
#include "image/collection.h"
#include "image/digests.h"
#include "image/format.h"
#include "image/image_files.h"
#include "image/key.h"
#include "image/travel.h"
#include "tests/unit/cache/faulty_file_env.h"

namespace pylaunch::image {
namespace {

namespace fs = std::filesystem;
using cache::ErrorCode;
using testing::HasSubstr;

constexpr uint64_t kSize = 1000 * kPage;
const std::string kMine = "/proc/self/exe";

std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
void WriteAll(const std::string& path, const std::string& bytes) {
  fs::remove(path);  // ext4 writes out at once what was cut off (auto_da_alloc).
  std::ofstream(path, std::ios::binary) << bytes;
  fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write);
}

class TransferTest : public testing::Test {
 protected:
  TransferTest() {
    std::string name = testing::TempDir() + "transfer-XXXXXX";
    folder_ = mkdtemp(name.data());
    from_ = folder_ + "/from";
    to_ = folder_ + "/to";
    file_ = folder_ + "/exported";
    fs::create_directories(from_ + "/images");
  }
  ~TransferTest() override { fs::remove_all(folder_); }

  static Key KeyNow() {
    Key key;
    key.facts = MachineFacts();
    key.facts.push_back({kPython, kMine});
    key.facts.push_back({kEngine, kMine});
    key.facts.push_back({kRestorerFile, Text(StateOf("/proc/self/" + std::string(kRestorer)))});
    key.facts.push_back({kEngineFile, Text(StateOf(kMine))});
    return key;
  }

  // An image of seven pages of data, its key as `change` leaves it, and digests. Its path.
  std::string Make(const std::function<void(Key*)>& change = [](Key*) {}) {
    Key key = KeyNow();
    change(&key);
    Facts command;
    for (const char* name : {kPython, kPythonOptions, kProgramKind, kProgramFolder, kPreloadPlan}) {
      command.push_back({name, ValueOf(key.facts, name)});
    }
    const ImageFiles files = FilesFor(from_ + "/images", command, key.facts);
    Header header = {};
    std::memcpy(header.magic, kMagic, sizeof kMagic);
    header.format = kFormat;
    header.data_offset = kPage;
    header.file_size = kSize;
    std::string table(kPage, '\0');
    std::memcpy(table.data(), &header, sizeof header);
    const int fd = open(files.image.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600);
    EXPECT_EQ(ftruncate(fd, kSize), 0);
    EXPECT_EQ(pwrite(fd, table.data(), kPage, 0), ssize_t{kPage});
    EXPECT_EQ(pwrite(fd, "xyz", 3, 700 * kPage), 3);
    EXPECT_EQ(pwrite(fd, "end of page", 11, 702 * kPage - 11), 11);
    const std::string four(4 * kPage, 'x');  // More than what is not compressed (cache/codec.h).
    EXPECT_EQ(pwrite(fd, four.data(), four.size(), 900 * kPage), ssize_t{4 * kPage});
    close(fd);
    key.table_size = kPage;
    key.table = TableHash(table);
    key.content = *ContentHash(files.image);
    key.image = StateOf(files.image);
    WriteAll(files.key, key.Serialize());
    WriteAll(DigestsOf(files.image), Digests{DigestsId(key.files), {}}.Serialize());
    return files.image;
  }

  cache::Result<std::vector<Carried>> Take(const PackRequest& request,
                                           cache::FileEnv& env = cache::PosixFileEnv()) {
    auto writer = cache::ArchiveWriter::Create(env, file_, BuildKey());
    if (!writer) return tl::unexpected(writer.error());
    auto packed = PackImages(env, request, writer->get());
    if (!packed) return packed;
    if (auto done = (*writer)->Finish(); !done) return tl::unexpected(done.error());
    return packed;
  }
  std::vector<Carried> Take() { return Take({from_, kMine}).value_or(std::vector<Carried>()); }

  // What the tool does, less the archive.
  cache::Result<std::vector<Carried>> Put(cache::FileEnv& env = cache::PosixFileEnv(),
                                          bool replace = false) {
    const auto reader = cache::ArchiveReader::OpenAny(cache::PosixFileEnv(), file_);
    if (!reader) return tl::unexpected(reader.error());
    Arrivals arrivals(env, to_, kMine, replace);
    if (auto done = arrivals.Unpack(**reader); !done) return tl::unexpected(done.error());
    if (auto done = arrivals.Publish(); !done) return tl::unexpected(done.error());
    return arrivals.images();
  }
  ErrorCode Refusal() {
    const auto put = Put();
    EXPECT_FALSE(put);
    return put ? ErrorCode::kIo : put.error().code;
  }

  std::vector<std::string> Arrived() const {
    std::vector<std::string> names;
    if (!fs::exists(to_ + "/images")) return names;
    for (const auto& entry : fs::directory_iterator(to_ + "/images")) {
      names.push_back(entry.path().filename());
    }
    std::sort(names.begin(), names.end());
    return names;
  }
  static cache::BuildKey BuildKey() { return {.python = "p", .environment = "e"}; }
  std::string InTo(const std::string& image) const {
    return to_ + "/images/" + fs::path(image).filename().string();
  }

  std::string folder_, from_, to_, file_;
};

TEST_F(TransferTest, GoesThereAndBack) {
  const std::string image = Make();
  const auto taken = Take();
  ASSERT_EQ(taken.size(), 1u);
  EXPECT_FALSE(taken[0].left_out) << taken[0].why;
  EXPECT_EQ(taken[0].bytes, kSize);
  EXPECT_EQ(taken[0].data_bytes, 7 * kPage);
  EXPECT_LT(fs::file_size(file_), 2 * kPage) << "holes cost nothing";
  const auto put = Put();
  ASSERT_TRUE(put) << put.error().message;
  EXPECT_EQ(put->size(), 1u);
  EXPECT_EQ(Arrived().size(), 3u);
  EXPECT_EQ(ReadAll(InTo(image)), ReadAll(image));
  EXPECT_EQ(ReadAll(DigestsOf(InTo(image))), ReadAll(DigestsOf(image)));
  struct stat st;
  for (const std::string& path : {InTo(image), KeyOf(InTo(image)), DigestsOf(InTo(image))}) {
    ASSERT_EQ(stat(path.c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 0777, 0600u) << path;
  }
  ASSERT_EQ(stat(InTo(image).c_str(), &st), 0);
  EXPECT_LT(st.st_blocks * 512, static_cast<long>(20 * kPage)) << "it has its holes";
  const auto key = Key::Parse(ReadAll(KeyOf(InTo(image))));
  ASSERT_TRUE(key);
  EXPECT_EQ(key->image, StateOf(InTo(image)));
  const auto found = Collect(cache::PosixFileEnv(), to_ + "/images", nullptr, /*check=*/true);
  ASSERT_EQ(found->images.size(), 1u);
  EXPECT_EQ(found->images[0].standing, cache::Standing::kAlive) << found->images[0].difference;
  EXPECT_TRUE(found->images[0].wrong.empty());
}

TEST_F(TransferTest, WhatIsForOthersKeepsItsMode) {
  const std::string image = Make([](Key* key) { key->shared = true; });
  Take();
  ASSERT_TRUE(Put());
  struct stat st;
  for (const std::string& path : {InTo(image), KeyOf(InTo(image)), DigestsOf(InTo(image))}) {
    ASSERT_EQ(stat(path.c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 0777, 0644u) << path;
  }
  for (const std::string& path : {to_, to_ + "/images"}) {
    ASSERT_EQ(stat(path.c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 0777, 0755u) << path;
  }
}

void Set(Key* key, const std::string& name, const std::string& value) {
  for (Fact& fact : key->facts) {
    if (fact.name == name) fact.value = value;
  }
}

TEST_F(TransferTest, WhatCannotBeUsedElsewhereStays) {
  Make([](Key* key) {
    key->boot = "it keeps 3 times";
    key->facts.push_back({"variable C", "1"});
  });
  Make([](Key* key) { key->facts.push_back({kAllowedSecrets, "A_TOKEN"}); });
  Make([](Key* key) { Set(key, kUser, "12345:1:1"); });
  Make([](Key* key) { key->files = PackProofs({{"/proc/self/no", {{1, 2, 3, 4, 5}, {}}}}); });
  fs::remove(DigestsOf(Make([](Key* key) { key->facts.push_back({"variable A", "1"}); })));
  const std::string damaged = Make([](Key* key) { key->facts.push_back({"variable B", "1"}); });
  WriteAll(damaged, ReadAll(damaged).replace(700 * kPage, 1, "z"));
  Make([](Key* key) { Set(key, kPython, "/proc/self/fd"); });  // Another's: not a word.
  std::vector<std::string> reasons;
  for (const Carried& image : Take()) {
    EXPECT_TRUE(image.left_out);
    reasons.push_back(image.why);
  }
  EXPECT_THAT(reasons,
              testing::UnorderedElementsAre(
                  HasSubstr("this boot only: it keeps 3 times"), HasSubstr("--image-allow"),
                  "it is for another user", HasSubstr("/proc/self/no changed"),
                  HasSubstr(".digests is not there"), HasSubstr("damaged")));
  ASSERT_TRUE(Put());
  EXPECT_TRUE(Arrived().empty());
}

TEST_F(TransferTest, OnlySharedOnesIfThatIsAsked) {
  Make();
  const std::string shared = Make([](Key* key) {
    key->shared = true;
    key->facts.push_back({"variable A", "1"});
  });
  const auto taken = Take({from_, kMine, /*only_shared=*/true});
  ASSERT_EQ(taken->size(), 2u);
  EXPECT_NE((*taken)[0].left_out, (*taken)[1].left_out);
  ASSERT_TRUE(Put());
  EXPECT_EQ(Arrived().size(), 3u);
  EXPECT_TRUE(fs::exists(InTo(shared)));
}

TEST_F(TransferTest, EveryTruncationIsRefusedAndLeavesNothing) {
  Make();
  Take();
  const std::string whole = ReadAll(file_);
  for (size_t size = 0; size < whole.size(); ++size) {
    WriteAll(file_, whole.substr(0, size));
    ASSERT_EQ(Refusal(), ErrorCode::kCorrupt) << size;
    ASSERT_TRUE(Arrived().empty()) << size;
  }
}

TEST_F(TransferTest, EveryFlippedBitIsRefusedAndLeavesNothing) {
  Make();
  Take();
  const std::string whole = ReadAll(file_);
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << (at % 8)));
    WriteAll(file_, damaged);
    const auto put = Put();
    ASSERT_FALSE(put) << at;
    ASSERT_NE(put.error().code, ErrorCode::kIo) << at << put.error().message;
    ASSERT_TRUE(Arrived().empty()) << at;
  }
}

// A list whose checksum is right.
class ListTest : public TransferTest {
 protected:
  struct Row {
    std::string name = "0123456789abcdef-0123456789abcdef";
    uint64_t offset = 0, length = 0, size = 0;  // Of the image's only piece; 0: as it should be.
    uint32_t raw_size = 0;
    const Key* key = nullptr;
    const Digests* digests = nullptr;
  };

  struct Extent {
    uint64_t offset, size;
  };
  void File(cache::ArchiveWriter* to, cache::WireWriter* table, const std::string& bytes,
            const Row& row) {
    cache::Block block = *to->AddBlock(bytes);
    if (row.raw_size != 0) block.raw_size = row.raw_size;
    table->Number(row.size != 0 ? row.size : bytes.size());
    table->Number<uint64_t>(1);
    table->Number(block);
    table->Number<uint64_t>(1);
    table->Number(Extent{row.offset, row.length != 0 ? row.length : bytes.size()});
  }
  void Write(const std::vector<Row>& rows, uint32_t format = kFormat, const char* more = "") {
    auto writer = *cache::ArchiveWriter::Create(cache::PosixFileEnv(), file_, BuildKey());
    cache::WireWriter table;
    table.Number(format);
    table.Number<uint64_t>(rows.size());
    for (const Row& row : rows) {
      table.String(row.name);
      const Key key = row.key != nullptr ? *row.key : KeyNow();
      File(writer.get(), &table, key.Serialize(), Row());
      File(writer.get(), &table,
           (row.digests != nullptr ? *row.digests : Digests{DigestsId(key.files), {}}).Serialize(),
           Row());
      File(writer.get(), &table, std::string(kPage, 'x'), row);
    }
    table.Raw(more);
    writer->AddSection(cache::kCargoTag, table.Take());
    ASSERT_TRUE(writer->Finish());
  }
};

TEST_F(ListTest, WhatIsWrongButWholeIsRefused) {
  const std::string image = Make();
  const std::string name = fs::path(image).stem();
  const Key key = *Key::Parse(ReadAll(KeyOf(image)));
  const Digests other{1, {}};
  const std::pair<const char*, Row> rows[] = {
      {"another name than the key's", {.key = &key}},
      {"a path", {.name = "../../../../../../tmp/aaaaaaaa-aa", .key = &key}},
      {"an absolute path", {.name = "/" + name.substr(1), .key = &key}},
      {"no name", {.name = "", .key = &key}},
      {"digests of another", {.name = name, .key = &key, .digests = &other}},
      {"a piece outside", {.name = name, .offset = kSize, .key = &key}},
      {"a piece far outside", {.name = name, .offset = ~uint64_t{0} - 100, .key = &key}},
      {"a piece that is too long", {.name = name, .length = ~uint64_t{0}, .key = &key}},
      {"a block that is too long", {.name = name, .raw_size = 1 << 30, .key = &key}},
      {"an image that is too long", {.name = name, .size = ~uint64_t{0}, .key = &key}},
      {"another image", {.name = name, .key = &key}},
  };
  for (const auto& [what, row] : rows) {
    Write({row});
    EXPECT_EQ(Refusal(), ErrorCode::kCorrupt) << what;
    EXPECT_TRUE(Arrived().empty()) << what;
  }
  Write({{.name = name, .key = &key}}, kFormat, "more");
  EXPECT_EQ(Refusal(), ErrorCode::kCorrupt);
  Write({}, kFormat + 1);
  EXPECT_EQ(Refusal(), ErrorCode::kForeign);
  Make([](Key* made) { Set(made, kPython, "/proc/self/fd"); });
  ASSERT_TRUE(Take({from_, "/proc/self/fd"}));
  EXPECT_EQ(Refusal(), ErrorCode::kForeign);
  EXPECT_TRUE(Arrived().empty());
}

TEST_F(TransferTest, TwiceTheSameNameIsRefused) {
  Make();
  Take();
  const auto reader = *cache::ArchiveReader::OpenAny(cache::PosixFileEnv(), file_);
  const std::string table(*reader->Section(cache::kCargoTag));
  auto writer = *cache::ArchiveWriter::Create(cache::PosixFileEnv(), file_, BuildKey());
  cache::WireWriter list;
  list.Number(kFormat);
  list.Number<uint64_t>(2);
  const std::string row = table.substr(sizeof kFormat + sizeof(uint64_t));
  list.Raw(row + row);
  writer->AddSection(cache::kCargoTag, list.Take());
  ASSERT_TRUE(writer->Finish());
  EXPECT_EQ(Refusal(), ErrorCode::kCorrupt);
}

TEST_F(TransferTest, OwnImagesThatHoldStay) {
  const std::string image = Make();
  Take();
  ASSERT_TRUE(Put());
  const FileState before = StateOf(InTo(image));
  auto again = Put();
  ASSERT_TRUE(again);
  EXPECT_TRUE((*again)[0].kept);
  EXPECT_EQ(StateOf(InTo(image)), before);
  ASSERT_TRUE(Put(cache::PosixFileEnv(), /*replace=*/true));
  EXPECT_NE(StateOf(InTo(image)), before);
  std::ofstream(InTo(image), std::ios::app) << "x";  // It does not hold any more.
  again = Put();
  ASSERT_TRUE(again);
  EXPECT_FALSE((*again)[0].kept);
  EXPECT_EQ(ReadAll(InTo(image)), ReadAll(image));
  EXPECT_EQ(Arrived().size(), 3u);
}

TEST_F(TransferTest, WhateverFailsWhatIsThereIsWhole) {
  const std::string image = Make();
  Take();
  const std::string exported = ReadAll(file_);
  bool put = false, taken = false;
  int fired = 0;
  for (int n = 0; n < 200 && !(put && taken); ++n) {
    cache::FaultyFileEnv env;
    fs::remove_all(to_);
    env.FailAt(n);
    put = Put(env).has_value() && env.fired() == 0;
    fired += env.fired() > 0;
    const auto found = Collect(cache::PosixFileEnv(), to_ + "/images", nullptr, /*check=*/true);
    ASSERT_TRUE(found);
    for (const ImageSummary& summary : found->images) {
      EXPECT_TRUE(!summary.error && summary.wrong.empty()) << n;
    }
    EXPECT_TRUE(!put || found->images.size() == 1) << n;
    env.FailAt(n, /*and_later=*/true);
    const bool written = Take({from_, kMine}, env).has_value();
    EXPECT_TRUE(written || ReadAll(file_) == exported) << n;
    taken = written && env.fired() == 0;
    WriteAll(file_, exported);
  }
  EXPECT_TRUE(put && taken);
  EXPECT_GT(fired, 5);
}

}  // namespace
}  // namespace pylaunch::image
