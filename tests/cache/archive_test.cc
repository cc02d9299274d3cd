#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <thread>

#include "cache/archive_reader.h"
#include "cache/archive_writer.h"
#include "cache/codec.h"
#include "cache/format.h"
#include "test_util.h"

namespace pylaunch::cache {
namespace {

using ReaderPtr = std::unique_ptr<ArchiveReader>;

SourceStamp StampOf(int i) {
  return {.mtime_ns = 1'000'000'007LL * i, .size = 10u + i, .ctime_ns = 3LL * i, .inode = 500u + i};
}
FolderStamp FolderStampFor(int i) {
  return {.mtime_ns = 5LL * i, .ctime_ns = 7LL * i, .inode = 1000u + i};
}
std::string ModulePath(int i) { return "/venv/lib/m" + std::to_string(i) + ".py"; }
std::string FolderPath(int i) { return "/venv/lib/p" + std::to_string(i); }
std::vector<std::string> NamesOf(int i) {
  std::vector<std::string> names;
  for (int n = i; n > 0; --n) names.push_back("name" + std::to_string(n) + ".py");
  return names;
}

void WriteArchive(const std::string& path, int modules, int folders, int seed = 0) {
  auto writer = ArchiveWriter::Create(PosixFileEnv(), path, TestKey());
  ASSERT_TRUE(writer) << writer.error().message;
  for (int i = 0; i < modules; ++i) {
    ASSERT_TRUE((*writer)->AddModule(ModulePath(i), StampOf(i), CodeOf(seed + i, 80 + i)));
  }
  for (int i = 0; i < folders; ++i) {
    (*writer)->AddFolder(FolderPath(i), FolderStampFor(i), NamesOf(i));
  }
  const auto done = (*writer)->Finish();
  ASSERT_TRUE(done) << done.error().message;
}

Result<ReaderPtr> Open(const std::string& path) {
  return ArchiveReader::Open(PosixFileEnv(), path, TestKey());
}

ErrorCode OpenError(const std::string& path) {
  const auto reader = Open(path);
  EXPECT_FALSE(reader);
  return reader ? ErrorCode::kIo : reader.error().code;
}

// What the archive of WriteArchive says must be true or nothing: any module, folder or name that is
// there at all must be the right one. Visits everything.
void ExpectNothingFalse(const ArchiveReader& reader, int modules, int folders, int* found) {
  std::string code;
  *found = 0;
  for (int i = 0; i < modules; ++i) {
    const auto entry = reader.FindModule(ModulePath(i));
    if (!entry) continue;
    EXPECT_EQ(entry->path, ModulePath(i));
    EXPECT_EQ(entry->stamp, StampOf(i));
    if (!reader.ReadCode(*entry, &code)) continue;
    EXPECT_EQ(code, CodeOf(i, 80 + i));
    ++*found;
  }
  for (int i = 0; i < folders; ++i) {
    const auto entry = reader.FindFolder(FolderPath(i));
    if (!entry) continue;
    EXPECT_EQ(entry->stamp, FolderStampFor(i));
    EXPECT_EQ(entry->names.size(), static_cast<uint32_t>(i));
    for (const std::string& name : NamesOf(i)) EXPECT_TRUE(entry->names.Contains(name));
    EXPECT_FALSE(entry->names.Contains("absent"));
    ++*found;
  }
  EXPECT_FALSE(reader.FindModule("/venv/lib/absent.py"));
  code = reader.key_text();
  for (uint32_t i = 0; i < reader.module_count(); ++i) {
    const ModuleEntry entry = reader.module(i);
    if (!entry.path.empty()) (void)reader.ReadCode(entry, &code);
  }
  for (uint32_t i = 0; i < reader.folder_count(); ++i) {
    const FolderEntry entry = reader.folder(i);
    for (uint32_t n = 0; n < entry.names.size(); ++n) code = entry.names[n];
  }
}

TEST(Archive, RoundTrip) {
  TempFolder folder;
  const std::string path = folder / "a.pla";
  const int64_t before = PosixFileEnv().NowNs();
  WriteArchive(path, 300, 40);
  const auto reader = Open(path);
  ASSERT_TRUE(reader) << reader.error().message;
  EXPECT_EQ((*reader)->module_count(), 300u);
  EXPECT_EQ((*reader)->folder_count(), 40u);
  EXPECT_EQ((*reader)->file_size(), ReadAll(path).size());
  EXPECT_GE((*reader)->created_ns(), before);
  EXPECT_LE((*reader)->created_ns(), PosixFileEnv().NowNs());
  EXPECT_EQ((*reader)->key_text(), TestKey().Text());
  int found;
  ExpectNothingFalse(**reader, 300, 40, &found);
  EXPECT_EQ(found, 340);
}

TEST(Archive, FramesLieInTheOrderOfFirstUse) {
  TempFolder folder;
  WriteArchive(folder / "a.pla", 100, 0);
  const auto reader = Open(folder / "a.pla");
  ASSERT_TRUE(reader);
  uint64_t end = sizeof(format::Header);
  for (int i = 0; i < 100; ++i) {
    const auto entry = (*reader)->FindModule(ModulePath(i));
    ASSERT_TRUE(entry);
    EXPECT_EQ(entry->order, static_cast<uint32_t>(i));
    EXPECT_EQ(entry->frame_offset, end);
    end += entry->frame_size;
  }
}

TEST(Archive, AnEmptyOneIsFine) {
  TempFolder folder;
  WriteArchive(folder / "a.pla", 0, 0);
  const auto reader = Open(folder / "a.pla");
  ASSERT_TRUE(reader);
  EXPECT_EQ((*reader)->module_count(), 0u);
  EXPECT_FALSE((*reader)->FindModule("/x.py"));
  EXPECT_FALSE((*reader)->FindFolder(""));
}

TEST(Archive, IsPrivateAndNothingIsVisibleBeforeFinish) {
  TempFolder folder;
  const std::string path = folder / "a.pla";
  auto writer = ArchiveWriter::Create(PosixFileEnv(), path, TestKey());
  ASSERT_TRUE(writer);
  ASSERT_TRUE((*writer)->AddModule("/a.py", StampOf(1), CodeOf(1)));
  EXPECT_EQ(OpenError(path), ErrorCode::kNotFound);
  EXPECT_EQ(TempFilesOf(path).size(), 1u);
  ASSERT_TRUE((*writer)->Finish());
  EXPECT_EQ(NamesIn(folder.path()), std::vector<std::string>{"a.pla"});
  struct stat st = {};
  ASSERT_EQ(stat(path.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0600u);
  EXPECT_FALSE((*writer)->Finish()) << "once only";
  (*writer)->Abandon();
  EXPECT_TRUE(Open(path));
}

TEST(Archive, AbandonAndDestructorLeaveNothing) {
  TempFolder folder;
  const std::string path = folder / "a.pla";
  for (const bool abandon : {true, false}) {
    auto writer = ArchiveWriter::Create(PosixFileEnv(), path, TestKey());
    ASSERT_TRUE(writer);
    ASSERT_TRUE((*writer)->AddModule("/a.py", StampOf(1), CodeOf(1)));
    if (abandon) (*writer)->Abandon();
  }
  EXPECT_TRUE(NamesIn(folder.path()).empty());
}

TEST(Archive, OfAPathAddedTwiceTheFirstStays) {
  TempFolder folder;
  auto writer = ArchiveWriter::Create(PosixFileEnv(), folder / "a.pla", TestKey());
  ASSERT_TRUE(writer);
  ASSERT_TRUE((*writer)->AddModule("/a.py", StampOf(1), CodeOf(1)));
  ASSERT_TRUE((*writer)->AddModule("/a.py", StampOf(2), CodeOf(2)));
  (*writer)->AddFolder("/f", FolderStampFor(1), {"x", "x", "a"});
  (*writer)->AddFolder("/f", FolderStampFor(2), {});
  ASSERT_TRUE((*writer)->Finish());
  const auto reader = Open(folder / "a.pla");
  ASSERT_TRUE(reader);
  EXPECT_EQ((*reader)->module_count(), 1u);
  EXPECT_EQ((*reader)->FindModule("/a.py")->stamp, StampOf(1));
  EXPECT_EQ(CodeIn(folder / "a.pla", "/a.py"), CodeOf(1));
  EXPECT_EQ((*reader)->folder_count(), 1u);
  EXPECT_EQ((*reader)->FindFolder("/f")->names.size(), 2u);
}

TEST(Archive, CodeThatCannotBeKeptIsRefused) {
  TempFolder folder;
  auto writer = ArchiveWriter::Create(PosixFileEnv(), folder / "a.pla", TestKey());
  ASSERT_TRUE(writer);
  EXPECT_FALSE((*writer)->AddModule("/a.py", StampOf(1), ""));
  EXPECT_FALSE((*writer)->AddModule("", StampOf(1), "x"));
  EXPECT_FALSE((*writer)->AddFrame("/a.py", StampOf(1), "", 5));
}

TEST(Archive, OfAnotherBuildOrVersionIsForeign) {
  TempFolder folder;
  const std::string path = folder / "a.pla";
  WriteArchive(path, 3, 3);
  BuildKey key = TestKey();
  key.environment = "/other";
  EXPECT_EQ(ArchiveReader::Open(PosixFileEnv(), path, key).error().code, ErrorCode::kForeign);
  const auto any = ArchiveReader::OpenAny(PosixFileEnv(), path);
  ASSERT_TRUE(any);
  EXPECT_EQ((*any)->key_text(), TestKey().Text());
  std::string bytes = ReadAll(path);
  bytes[8] = 2;
  WriteAll(path, bytes);
  EXPECT_EQ(OpenError(path), ErrorCode::kForeign);
}

TEST(Archive, SameDigestWithAnotherKeyTextIsForeign) {
  TempFolder folder;
  const std::string path = folder / "a.pla";
  WriteArchive(path, 0, 0);
  std::string bytes = ReadAll(path);
  bytes.back() ^= 1;  // The pool holds nothing but the key's text.
  WriteAll(path, bytes);
  EXPECT_EQ(OpenError(path), ErrorCode::kForeign);
}

TEST(Archive, ReadersOfAReplacedArchiveStayValid) {
  TempFolder folder;
  const std::string path = folder / "a.pla";
  WriteArchive(path, 50, 5);
  const auto old = Open(path);
  ASSERT_TRUE(old);
  WriteArchive(path, 10, 0, /*seed=*/1000);
  int found;
  ExpectNothingFalse(**old, 50, 5, &found);
  EXPECT_EQ(found, 55);
  EXPECT_EQ(CodeIn(path, ModulePath(3)), CodeOf(1003, 83));
}

TEST(Archive, LookUpsWorkFromManyThreads) {
  TempFolder folder;
  WriteArchive(folder / "a.pla", 200, 20);
  const auto reader = Open(folder / "a.pla");
  ASSERT_TRUE(reader);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        EXPECT_TRUE((*reader)->FindModule(ModulePath(i)));
        EXPECT_EQ((*reader)->FindFolder(FolderPath(i)).has_value(), i < 20);
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST(NameList, Contains) {
  TempFolder folder;
  auto writer = ArchiveWriter::Create(PosixFileEnv(), folder / "a.pla", TestKey());
  ASSERT_TRUE(writer);
  const std::vector<std::string> names = {"torch", "b",        "",   "a",
                                          "B",     "\xc3\xa9", "ab", "torchvision"};
  (*writer)->AddFolder("/f", FolderStampFor(1), names);
  ASSERT_TRUE((*writer)->Finish());
  const auto reader = Open(folder / "a.pla");
  ASSERT_TRUE(reader);
  const NameList list = (*reader)->FindFolder("/f")->names;
  ASSERT_EQ(list.size(), names.size());
  for (const auto& name : names) EXPECT_TRUE(list.Contains(name)) << name;
  for (const char* name : {"torc", "torch1", "c", "A", "abc", "\xff", "\x01"}) {
    EXPECT_FALSE(list.Contains(name)) << name;
  }
  for (uint32_t i = 1; i < list.size(); ++i) EXPECT_LT(list[i - 1], list[i]);
  EXPECT_FALSE(NameList().Contains("x"));
}

TEST(ArchiveTrust, WritableByOthersIsRefused) {
  TempFolder folder;
  const std::string path = folder / "a.pla";
  WriteArchive(path, 1, 1);
  for (const mode_t mode : {0620, 0602, 0666}) {
    ASSERT_EQ(chmod(path.c_str(), mode), 0);
    EXPECT_EQ(OpenError(path), ErrorCode::kUntrusted) << std::oct << mode;
  }
  for (const mode_t mode : {0600, 0644, 0400}) {
    ASSERT_EQ(chmod(path.c_str(), mode), 0);
    EXPECT_TRUE(Open(path)) << std::oct << mode;
  }
}

TEST(ArchiveTrust, AnotherUsersFileIsRefusedAndRootsIsNot) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  TempFolder folder;
  const std::string path = folder / "a.pla";
  WriteArchive(path, 1, 1);
  ASSERT_EQ(chown(path.c_str(), 65534, 65534), 0);
  EXPECT_EQ(OpenError(path), ErrorCode::kUntrusted);
  ASSERT_EQ(chown(path.c_str(), 0, 0), 0);
  ASSERT_EQ(chmod(path.c_str(), 0644), 0);
  ASSERT_EQ(chmod(folder.path().c_str(), 0755), 0);
  ASSERT_EQ(seteuid(65534), 0);
  const bool opened = Open(path).has_value();
  ASSERT_EQ(seteuid(0), 0);
  EXPECT_TRUE(opened);
}

TEST(ArchiveTrust, ALinkIsRefused) {
  TempFolder folder;
  WriteArchive(folder / "a.pla", 1, 1);
  ASSERT_EQ(symlink("a.pla", (folder / "link.pla").c_str()), 0);
  EXPECT_EQ(OpenError(folder / "link.pla"), ErrorCode::kUntrusted);
}

TEST(ArchiveDamage, EveryCutIsCorrupt) {
  TempFolder folder;
  const std::string path = folder / "a.pla";
  WriteArchive(path, 4, 4);
  const std::string bytes = ReadAll(path);
  for (size_t size = 0; size < bytes.size(); ++size) {
    WriteAll(path, bytes.substr(0, size));
    ASSERT_EQ(OpenError(path), ErrorCode::kCorrupt) << size;
  }
  WriteAll(path, bytes + '\0');
  EXPECT_EQ(OpenError(path), ErrorCode::kCorrupt);
}

TEST(ArchiveDamage, EveryByteFlipIsDetectedOrHarmless) {
  TempFolder folder;
  const std::string path = folder / "a.pla";
  WriteArchive(path, 4, 4);
  const std::string bytes = ReadAll(path);
  size_t detected = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (const int mask : {0x01, 0x80, 0xff}) {
      std::string bad = bytes;
      bad[i] ^= static_cast<char>(mask);
      WriteAll(path, bad);
      const auto any = ArchiveReader::OpenAny(PosixFileEnv(), path);
      const auto reader = Open(path);
      int found = 0;
      if (reader) ExpectNothingFalse(**reader, 4, 4, &found);
      if (any) ExpectNothingFalse(**any, 4, 4, &found);
      if (!reader || found < 8) ++detected;
    }
  }
  // Not detected: one bit of zstd's frame header that nothing uses, where it is spare.
  EXPECT_GE(detected, bytes.size() * 3 - 4 * 3);
}

// Alters the archive as someone could who knows the format: with right checksums.
class HostileArchive {
 public:
  explicit HostileArchive(const std::string& path) : path_(path), bytes_(ReadAll(path)) {
    header = format::Load<format::Header>(bytes_.data());
    const char* at = bytes_.data() + header.index_offset;
    at += (header.module_count + header.folder_count) * sizeof(uint64_t);
    modules_ = at - bytes_.data();
    folders_ = modules_ + header.module_count * sizeof(format::Module);
    slots_ = folders_ + header.folder_count * sizeof(format::Folder);
    pool_ = slots_ + header.slot_count * sizeof(uint32_t);
  }

  format::Header header;

  void EditModule(uint32_t i, const std::function<void(format::Module*)>& edit) {
    const size_t at = modules_ + i * sizeof(format::Module);
    auto raw = format::Load<format::Module>(&bytes_[at]);
    edit(&raw);
    raw.check = format::ModuleCheck(raw, Cut(pool_, raw.path_offset, raw.path_size));
    bytes_.replace(at, sizeof raw, format::BytesOf(raw));
  }
  void EditFolder(uint32_t i, const std::function<void(format::Folder*)>& edit) {
    const size_t at = folders_ + i * sizeof(format::Folder);
    auto raw = format::Load<format::Folder>(&bytes_[at]);
    edit(&raw);
    raw.check = format::FolderCheck(
        raw, Cut(pool_, raw.path_offset, raw.path_size),
        Cut(slots_, raw.first_slot * uint64_t{4}, (raw.name_count + uint64_t{1}) * 4),
        Cut(pool_, raw.names_offset, raw.names_size));
    bytes_.replace(at, sizeof raw, format::BytesOf(raw));
  }
  format::Folder folder(uint32_t i) const {
    return format::Load<format::Folder>(&bytes_[folders_ + i * sizeof(format::Folder)]);
  }
  void SetSlot(uint32_t i, uint32_t value) {
    bytes_.replace(slots_ + i * sizeof value, sizeof value, format::BytesOf(value));
  }
  void Write() {
    header.index_checksum = format::Hash(std::string_view(bytes_).substr(
        std::min<uint64_t>(header.index_offset, bytes_.size()), header.index_size));
    header.checksum = format::HeaderChecksum(header);
    bytes_.replace(0, sizeof header, format::BytesOf(header));
    WriteAll(path_, bytes_);
  }

 private:
  // The bytes that an honest checksum would cover, as far as there are any.
  std::string_view Cut(size_t section, uint64_t offset, uint64_t size) const {
    const uint64_t at = std::min<uint64_t>(section + offset, bytes_.size());
    return std::string_view(bytes_).substr(at, size);
  }

  std::string path_;
  std::string bytes_;
  size_t modules_, folders_, slots_, pool_;
};

constexpr uint32_t kHuge32[] = {0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff};
constexpr uint64_t kHuge64[] = {0x7fffffff, 0xffffffff, 1ull << 62, 1ull << 63, ~0ull - 8, ~0ull};

class Hostile : public testing::Test {
 protected:
  void SetUp() override { WriteArchive(folder_ / "good.pla", 4, 4); }

  // Opening may fail or not; nothing may be false, nothing may be read outside the mapping (ASan
  // and SIGSEGV tell). Returns what is still found, of 8; -1 if the archive was refused.
  int Try(const std::function<void(HostileArchive*)>& edit) {
    const std::string path = folder_ / "bad.pla";
    WriteAll(path, ReadAll(folder_ / "good.pla"));
    chmod(path.c_str(), 0600);
    HostileArchive archive(path);
    edit(&archive);
    archive.Write();
    const auto any = ArchiveReader::OpenAny(PosixFileEnv(), path);
    const auto reader = Open(path);
    int found = -1;
    if (any) ExpectNothingFalse(**any, 4, 4, &found);
    if (!reader) return -1;
    ExpectNothingFalse(**reader, 4, 4, &found);
    return found;
  }

  TempFolder folder_;
};

TEST_F(Hostile, TheToolItselfKeepsAGoodArchiveGood) {
  EXPECT_EQ(Try([](HostileArchive* a) {
              for (uint32_t i = 0; i < 4; ++i) {
                a->EditModule(i, [](format::Module*) {});
                a->EditFolder(i, [](format::Folder*) {});
              }
            }),
            8);
}

TEST_F(Hostile, HeaderFields) {
  using format::Header;
  for (const uint64_t huge : kHuge64) {
    EXPECT_EQ(Try([&](HostileArchive* a) { a->header.index_offset = huge; }), -1);
    EXPECT_EQ(Try([&](HostileArchive* a) { a->header.index_size = huge; }), -1);
    EXPECT_EQ(Try([&](HostileArchive* a) { a->header.file_size = huge; }), -1);
  }
  for (uint32_t Header::*field : {&Header::module_count, &Header::folder_count, &Header::slot_count,
                                  &Header::pool_size, &Header::header_size}) {
    for (const uint32_t huge : kHuge32) {
      EXPECT_EQ(Try([&](HostileArchive* a) { a->header.*field = huge; }), -1);
    }
    EXPECT_EQ(Try([&](HostileArchive* a) { a->header.*field += 1; }), -1);
    EXPECT_EQ(Try([&](HostileArchive* a) { a->header.*field = 0; }), -1);
  }
  for (const uint32_t huge : kHuge32) {
    EXPECT_EQ(Try([&](HostileArchive* a) { a->header.key_size = huge; }), -1);
  }
  // Sections that fit in sum, shifted against each other: two folders as two modules.
  EXPECT_LT(Try([](HostileArchive* a) {
              a->header.module_count += 2;
              a->header.folder_count -= 2;
            }),
            8);
  EXPECT_LT(Try([](HostileArchive* a) {
              a->header.slot_count += 4;
              a->header.pool_size -= 16;
            }),
            8);
}

TEST_F(Hostile, ModuleFields) {
  using format::Module;
  for (uint32_t Module::*field :
       {&Module::path_offset, &Module::path_size, &Module::frame_size, &Module::raw_size}) {
    for (const uint32_t huge : kHuge32) {
      EXPECT_EQ(
          Try([&](HostileArchive* a) { a->EditModule(1, [&](Module* m) { m->*field = huge; }); }),
          7);
    }
  }
  for (const uint64_t offset : {0ull, 127ull, 1ull << 20, 1ull << 63, ~0ull, ~0ull - 50}) {
    EXPECT_EQ(Try([&](HostileArchive* a) {
                a->EditModule(1, [&](Module* m) { m->frame_offset = offset; });
              }),
              7);
  }
  // Frames must not reach into the index.
  EXPECT_EQ(Try([](HostileArchive* a) {
              a->EditModule(1, [&](Module* m) {
                m->frame_size = static_cast<uint32_t>(a->header.index_offset - m->frame_offset + 1);
              });
            }),
            7);
  EXPECT_EQ(Try([](HostileArchive* a) { a->EditModule(1, [](Module* m) { m->path_size = 0; }); }),
            7);
  EXPECT_EQ(Try([](HostileArchive* a) { a->EditModule(1, [](Module* m) { ++m->raw_size; }); }), 7);
}

TEST_F(Hostile, FolderFields) {
  using format::Folder;
  for (uint32_t Folder::*field :
       {&Folder::path_offset, &Folder::path_size, &Folder::first_slot, &Folder::name_count,
        &Folder::names_offset, &Folder::names_size}) {
    for (const uint32_t huge : kHuge32) {
      EXPECT_EQ(
          Try([&](HostileArchive* a) { a->EditFolder(1, [&](Folder* f) { f->*field = huge; }); }),
          7);
    }
  }
}

TEST_F(Hostile, NameOffsets) {
  // The folder with three names; its last offset is the size of its names.
  const auto edit = [this](uint32_t slot, uint32_t value) {
    return Try([=](HostileArchive* a) {
      for (uint32_t i = 0; i < 4; ++i) {
        if (a->folder(i).name_count == 3) a->SetSlot(a->folder(i).first_slot + slot, value);
        a->EditFolder(i, [](format::Folder*) {});
      }
    });
  };
  for (uint32_t slot = 0; slot < 4; ++slot) {
    for (const uint32_t huge : kHuge32) EXPECT_EQ(edit(slot, huge), 7);
  }
  EXPECT_EQ(edit(2, 0), 7) << "descending";
  EXPECT_EQ(edit(3, 1000), 7) << "beyond the names";
}

TEST_F(Hostile, AMadeUpEntryIsNotRead) {
  const auto reader = Open(folder_ / "good.pla");
  ASSERT_TRUE(reader);
  std::string code;
  for (const uint64_t offset : kHuge64) {
    ModuleEntry entry = (*reader)->module(0);
    entry.frame_offset = offset;
    EXPECT_EQ((*reader)->Frame(entry), "");
    EXPECT_FALSE((*reader)->ReadCode(entry, &code));
  }
}

TEST(ArchiveDamage, ADamagedFrameIsCorruptAndNamesTheModule) {
  TempFolder folder;
  const std::string path = folder / "a.pla";
  WriteArchive(path, 2, 0);
  const auto entry = (*Open(path))->FindModule(ModulePath(1));
  ASSERT_TRUE(entry);
  std::string bytes = ReadAll(path);
  bytes[entry->frame_offset + entry->frame_size / 2] ^= 0x55;
  WriteAll(path, bytes);
  const auto reader = Open(path);
  ASSERT_TRUE(reader);
  std::string code;
  const auto read = (*reader)->ReadCode(*(*reader)->FindModule(ModulePath(1)), &code);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, ErrorCode::kCorrupt);
  EXPECT_NE(read.error().message.find(ModulePath(1)), std::string::npos);
  ASSERT_TRUE((*reader)->ReadCode(*(*reader)->FindModule(ModulePath(0)), &code));
  EXPECT_EQ(code, CodeOf(0, 80));
}

}  // namespace
}  // namespace pylaunch::cache
