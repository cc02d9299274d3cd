#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>

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
// Of every second one.
std::optional<SourceDigest> DigestFor(int i) {
  if (i % 2 == 0) return {};
  return SourceDigest{.low = 11u * i, .high = 13u * i};
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
    ASSERT_TRUE(
        (*writer)->AddModule(ModulePath(i), StampOf(i), DigestFor(i), CodeOf(seed + i, 80 + i)));
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
    EXPECT_EQ(entry->digest, DigestFor(i));
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
  ASSERT_TRUE((*writer)->AddModule("/a.py", StampOf(1), {}, CodeOf(1)));
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
    ASSERT_TRUE((*writer)->AddModule("/a.py", StampOf(1), {}, CodeOf(1)));
    if (abandon) (*writer)->Abandon();
  }
  EXPECT_TRUE(NamesIn(folder.path()).empty());
}

TEST(Archive, OfAPathAddedTwiceTheFirstStays) {
  TempFolder folder;
  auto writer = ArchiveWriter::Create(PosixFileEnv(), folder / "a.pla", TestKey());
  ASSERT_TRUE(writer);
  ASSERT_TRUE((*writer)->AddModule("/a.py", StampOf(1), {}, CodeOf(1)));
  ASSERT_TRUE((*writer)->AddModule("/a.py", StampOf(2), {}, CodeOf(2)));
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
  EXPECT_FALSE((*writer)->AddModule("/a.py", StampOf(1), {}, ""));
  EXPECT_FALSE((*writer)->AddModule("", StampOf(1), {}, "x"));
  EXPECT_FALSE((*writer)->AddFrame("/a.py", StampOf(1), {}, "", 5));
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
  ++bytes[8];
  WriteAll(path, bytes);
  EXPECT_EQ(OpenError(path), ErrorCode::kForeign);
}

TEST(Archive, SameDigestWithAnotherKeyTextIsForeign) {
  TempFolder folder;
  const std::string path = folder / "a.pla";
  WriteArchive(path, 0, 0);
  std::string bytes = ReadAll(path);
  bytes.back() ^= 1;  // The sections hold nothing but the key's text and an empty folder's.
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

TEST(PackedNames, Contains) {
  TempFolder folder;
  auto writer = ArchiveWriter::Create(PosixFileEnv(), folder / "a.pla", TestKey());
  ASSERT_TRUE(writer);
  const std::vector<std::string> names = {"torch", "b",        "",   "a",
                                          "B",     "\xc3\xa9", "ab", "torchvision"};
  (*writer)->AddFolder("/f", FolderStampFor(1), names);
  ASSERT_TRUE((*writer)->Finish());
  const auto reader = Open(folder / "a.pla");
  ASSERT_TRUE(reader);
  const PackedNames list = (*reader)->FindFolder("/f")->names;
  ASSERT_EQ(list.size(), names.size());
  for (const auto& name : names) EXPECT_TRUE(list.Contains(name)) << name;
  for (const char* name : {"torc", "torch1", "c", "A", "abc", "\xff", "\x01"}) {
    EXPECT_FALSE(list.Contains(name)) << name;
  }
  for (uint32_t i = 1; i < list.size(); ++i) EXPECT_LT(list[i - 1], list[i]);
  EXPECT_FALSE(PackedNames().Contains("x"));
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
  const size_t frames_end = format::Load<format::Header>(bytes.data()).index_offset;
  size_t detected = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (const int mask : {0x01, 0xff}) {
      std::string bad = bytes;
      bad[i] ^= static_cast<char>(mask);
      WriteAll(path, bad);
      const auto any = ArchiveReader::OpenAny(PosixFileEnv(), path);
      const auto reader = Open(path);
      int found = 0;
      if (reader) ExpectNothingFalse(**reader, 4, 4, &found);
      if (any) ExpectNothingFalse(**any, 4, 4, &found);
      EXPECT_TRUE(!any || found == 8 || i < frames_end) << "tools read the whole index";
      const bool silent = reader && found < 8 && i >= frames_end && !(*reader)->damaged();
      EXPECT_FALSE(silent) << "byte " << i;
      if (!reader || found < 8 || (*reader)->damaged()) ++detected;
    }
  }
  // All but the last bytes of records, which fill them up to eight.
  EXPECT_GE(detected, (bytes.size() - 8 * 7) * 2);
}

// Alters the archive as someone could who knows the format: with right checksums.
class HostileArchive {
 public:
  explicit HostileArchive(const std::string& path) : path_(path), bytes_(ReadAll(path)) {
    header = format::Load<format::Header>(bytes_.data());
    for (format::Section& section : header.sections) places_[section.tag] = section.offset;
  }

  format::Header header;

  format::Section* section(uint32_t tag) {
    for (format::Section& section : header.sections) {
      if (section.tag == tag) return &section;
    }
    ADD_FAILURE() << "no section " << tag;
    return header.sections;
  }
  // Of the i-th path by hash.
  void EditModule(uint32_t i, const std::function<void(format::Module*)>& edit) {
    Edit<format::Module>(Place(format::kModuleSlots, format::kModules, i), edit);
  }
  void EditFolder(uint32_t i, const std::function<void(format::Folder*)>& edit) {
    Edit<format::Folder>(Place(format::kFolderSlots, format::kFolders, i), edit);
  }
  format::Folder folder(uint32_t i) const {
    return format::Load<format::Folder>(&bytes_[Place(format::kFolderSlots, format::kFolders, i)]);
  }
  void SetNameOffset(uint32_t i, uint32_t slot, uint32_t value) {
    const size_t at = Place(format::kFolderSlots, format::kFolders, i) + sizeof(format::Folder) +
                      folder(i).path_size + slot * sizeof value;
    bytes_.replace(at, sizeof value, format::BytesOf(value));
  }
  void EditSlot(uint32_t tag, uint32_t i, const std::function<void(format::Slot*)>& edit) {
    const size_t at = places_.at(tag) + i * sizeof(format::Slot);
    auto slot = format::Load<format::Slot>(&bytes_[at]);
    edit(&slot);
    bytes_.replace(at, sizeof slot, format::BytesOf(slot));
  }
  void Write() {
    for (format::Section& section : header.sections) {
      section.checksum = format::Hash(Cut(section.offset, section.size));
    }
    header.checksum = format::HeaderChecksum(header);
    bytes_.replace(0, sizeof header, format::BytesOf(header));
    WriteAll(path_, bytes_);
  }

 private:
  size_t Place(uint32_t slots, uint32_t records, uint32_t i) const {
    const auto slot =
        format::Load<format::Slot>(&bytes_[places_.at(slots) + i * sizeof(format::Slot)]);
    return places_.at(records) + slot.place * format::kRecordAlign;
  }
  template <typename Record>
  void Edit(size_t at, const std::function<void(Record*)>& edit) {
    auto record = format::Load<Record>(&bytes_[at]);
    edit(&record);
    record.check =
        format::RecordCheck(record, Cut(at + sizeof record, format::FollowingSize(record)));
    bytes_.replace(at, sizeof record, format::BytesOf(record));
  }
  // The bytes that an honest checksum would cover, as far as there are any.
  std::string_view Cut(uint64_t at, uint64_t size) const {
    return std::string_view(bytes_).substr(std::min<uint64_t>(at, bytes_.size()), size);
  }

  std::string path_;
  std::string bytes_;
  std::map<uint32_t, size_t> places_;
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
    EXPECT_EQ(Try([&](HostileArchive* a) { a->header.file_size = huge; }), -1);
  }
  for (uint32_t Header::*field :
       {&Header::module_count, &Header::folder_count, &Header::header_size}) {
    for (const uint32_t huge : kHuge32) {
      EXPECT_EQ(Try([&](HostileArchive* a) { a->header.*field = huge; }), -1);
    }
    EXPECT_EQ(Try([&](HostileArchive* a) { a->header.*field += 1; }), -1);
    EXPECT_EQ(Try([&](HostileArchive* a) { a->header.*field = 0; }), -1);
  }
}

TEST_F(Hostile, Sections) {
  for (uint32_t tag = format::kKey; tag <= format::kFolders; ++tag) {
    for (const uint64_t huge : kHuge64) {
      EXPECT_EQ(Try([&](HostileArchive* a) { a->section(tag)->offset = huge; }), -1);
      EXPECT_EQ(Try([&](HostileArchive* a) { a->section(tag)->size = huge; }), -1);
    }
    EXPECT_EQ(Try([&](HostileArchive* a) { a->section(tag)->offset = 0; }), -1);
    EXPECT_EQ(Try([&](HostileArchive* a) { a->section(tag)->tag = 99; }), -1);
    EXPECT_LT(Try([&](HostileArchive* a) { a->section(tag)->size /= 2; }), 8);
  }
  // One kind of record taken for the other.
  EXPECT_LT(Try([](HostileArchive* a) {
              std::swap(*a->section(format::kModules), *a->section(format::kFolders));
              a->section(format::kModules)->tag = 99;
              a->section(format::kFolders)->tag = format::kModules;
              a->section(99)->tag = format::kFolders;
            }),
            8);
}

TEST_F(Hostile, Slots) {
  for (const uint32_t huge : kHuge32) {
    EXPECT_EQ(Try([&](HostileArchive* a) {
                a->EditSlot(format::kModuleSlots, 1, [&](format::Slot* s) { s->place = huge; });
              }),
              7);
  }
  EXPECT_LT(Try([&](HostileArchive* a) {
              for (uint32_t i = 0; i < 4; ++i) {
                a->EditSlot(format::kModuleSlots, i, [&](format::Slot* s) { s->hash = ~s->hash; });
              }
            }),
            8)
      << "out of order";
  EXPECT_LT(Try([&](HostileArchive* a) {
              for (uint32_t i = 0; i < 4; ++i) {
                a->EditSlot(format::kFolderSlots, i, [&](format::Slot* s) { s->place = 1; });
              }
            }),
            8)
      << "into the middle of a record";
}

TEST_F(Hostile, ModuleFields) {
  using format::Module;
  for (uint32_t Module::*field : {&Module::path_size, &Module::frame_size, &Module::raw_size}) {
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
  for (uint32_t Folder::*field : {&Folder::path_size, &Folder::name_count, &Folder::names_size}) {
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
        if (a->folder(i).name_count == 3) a->SetNameOffset(i, slot, value);
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
    EXPECT_FALSE((*reader)->Frame(entry));
    EXPECT_FALSE((*reader)->ReadCode(entry, &code));
  }
}

// What kills a process that reads a mapping without care.
TEST(ArchiveDamage, AnArchiveThatIsCutOffUnderItsReaderIsDamaged) {
  TempFolder folder;
  const std::string path = folder / "a.pla";
  WriteArchive(path, 800, 80);
  const auto size = static_cast<off_t>(ReadAll(path).size());
  for (const off_t left : {size - 5000, size / 2, off_t{5000}, off_t{0}}) {
    WriteArchive(path, 800, 80);
    const auto reader = Open(path);
    ASSERT_TRUE(reader);
    std::string code;
    ASSERT_TRUE((*reader)->ReadCode(*(*reader)->FindModule(ModulePath(7)), &code));
    ASSERT_EQ(truncate(path.c_str(), left), 0);
    int found = 0;
    ExpectNothingFalse(**reader, 800, 80, &found);
    EXPECT_LT(found, 880) << left;
    EXPECT_TRUE((*reader)->damaged());
    EXPECT_FALSE((*reader)->Section(format::kFolders));
  }
}

TEST(ArchiveDamage, ASigbusOfTheProgramsIsStillItsOwn) {
  TempFolder folder;
  const std::string path = folder / "a.pla";
  EXPECT_EXIT(
      {
        signal(SIGBUS, [](int) { _exit(42); });
        WriteArchive(path, 3000, 0);
        const auto reader = Open(path);
        EXPECT_EQ(truncate(path.c_str(), 0), 0);
        (*reader)->FindModule(ModulePath(5));
        if (!(*reader)->damaged()) _exit(1);
        raise(SIGBUS);
      },
      testing::ExitedWithCode(42), "");
}

TEST(Archive, ASectionOfAnotherKindIsCarried) {
  TempFolder folder;
  const std::string path = folder / "a.pla";
  auto writer = ArchiveWriter::Create(PosixFileEnv(), path, TestKey());
  ASSERT_TRUE(writer);
  (*writer)->AddSection(77, "whatever");
  ASSERT_TRUE((*writer)->Finish());
  EXPECT_EQ((*Open(path))->Section(77), "whatever");
  EXPECT_EQ((*Open(path))->Section(78), std::nullopt);
  std::string bytes = ReadAll(path);
  bytes.back() ^= 1;
  WriteAll(path, bytes);
  const auto reader = Open(path);
  EXPECT_EQ((*reader)->Section(77), std::nullopt);
  EXPECT_TRUE((*reader)->damaged());
}

TEST(Archive, OpeningSetsTheTimeOfLastUseOnceAnHour) {
  TempFolder folder;
  const std::string path = folder / "a.pla";
  WriteArchive(path, 1, 1);
  const auto used = [&] {
    struct stat st = {};
    stat(path.c_str(), &st);
    return st.st_atim.tv_sec;
  };
  const auto set = [&](int64_t ago) {
    const int64_t now = PosixFileEnv().NowNs() / 1'000'000'000;
    const timespec times[2] = {{now - ago, 0}, {now - 100'000, 0}};
    ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
  };
  set(7200);
  const auto before = used();
  ASSERT_TRUE(ArchiveReader::OpenAny(PosixFileEnv(), path));
  ASSERT_TRUE(Open(path));
  EXPECT_GT(used(), before + 3600);
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
