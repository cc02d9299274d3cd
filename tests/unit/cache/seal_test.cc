#include "cache/seal.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "cache/archive.h"
#include "cache/archive_reader.h"
#include "cache/codec.h"
#include "cache/note.h"
#include "faulty_file_env.h"
#include "test_util.h"

namespace pylaunch::cache {
namespace {

TEST(SealJob, RoundTrips) {
  SealJob job;
  job.archive_path = "/c/a.pla";
  job.key = TestKey();
  job.key.optimize = 2;
  job.discard_existing = true;
  job.max_bytes = 12345;
  job.modules = {{.path = "/a.py",
                  .stamp = {.mtime_ns = -5, .size = 7, .ctime_ns = 9, .inode = 11},
                  .read_at_ns = 9,
                  .pyc_path = "/a.pyc",
                  .frame = "",
                  .raw_size = 0,
                  .compiled = false},
                 {.path = "/b.py",
                  .stamp = {},
                  .read_at_ns = 0,
                  .pyc_path = "",
                  .frame = std::string("\0\x01", 2),
                  .raw_size = 77,
                  .compiled = true}};
  job.folders = {{.path = "/f",
                  .stamp = {.mtime_ns = 1, .ctime_ns = 2, .inode = 3},
                  .read_at_ns = 4,
                  .names = {"x", "", "y"}}};
  const std::string bytes = job.Serialize();
  const auto parsed = SealJob::Parse(bytes);
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->Serialize(), bytes);
  EXPECT_EQ(parsed->archive_path, job.archive_path);
  EXPECT_EQ(parsed->key.Text(), job.key.Text());
  EXPECT_TRUE(parsed->discard_existing);
  EXPECT_EQ(parsed->max_bytes, 12345u);
  ASSERT_EQ(parsed->modules.size(), 2u);
  EXPECT_EQ(parsed->modules[0].stamp, job.modules[0].stamp);
  EXPECT_EQ(parsed->modules[1].frame, job.modules[1].frame);
  EXPECT_EQ(parsed->modules[1].raw_size, 77u);
  EXPECT_FALSE(parsed->modules[0].compiled);
  EXPECT_TRUE(parsed->modules[1].compiled);
  ASSERT_EQ(parsed->folders.size(), 1u);
  EXPECT_EQ(parsed->folders[0].stamp, job.folders[0].stamp);
  EXPECT_EQ(parsed->folders[0].names, job.folders[0].names);
}

TEST(SealJob, AnyCutAndAnyWrongLengthIsRefusedOrParsed) {
  TempFolder folder;
  const std::string bytes =
      MakeJob("/a.pla", {MakeModule(folder, "a", 1)}, {MakeFolder(folder, "f", {"x", "y"})})
          .Serialize();
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(SealJob::Parse(bytes.substr(0, size))) << size;
  }
  EXPECT_FALSE(SealJob::Parse(bytes + "x"));
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (const char value : {'\x00', '\x7f', '\xff'}) {
      std::string bad = bytes;
      bad[i] = value;
      (void)SealJob::Parse(bad);  // Must only come back: no crash, no huge allocation.
    }
  }
}

TEST(Seal, TheFirstOneMakesFolderAndArchive) {
  TempFolder folder;
  const std::string archive = folder / "cache/pylaunch/a.pla";
  const auto a = MakeModule(folder, "a", 1), b = MakeModule(folder, "b", 2);
  const auto f = MakeFolder(folder, "f", {"x.py", "y"});
  const SealOutcome outcome = SealOk(MakeJob(archive, {a, b}, {f}));
  EXPECT_EQ(outcome.added, 3u);
  EXPECT_EQ(outcome.kept, 0u);
  EXPECT_EQ(outcome.dropped, 0u);
  EXPECT_TRUE(outcome.written);
  EXPECT_EQ(CodeIn(archive, a.path), CodeOf(1));
  EXPECT_EQ(CodeIn(archive, b.path), CodeOf(2));
  const auto reader = ArchiveReader::Open(PosixFileEnv(), archive, TestKey());
  EXPECT_EQ((*reader)->FindModule(a.path)->stamp, a.stamp);
  EXPECT_EQ((*reader)->FindFolder(f.path)->stamp, f.stamp);
  EXPECT_TRUE((*reader)->FindFolder(f.path)->names.Contains("x.py"));
  struct stat st = {};
  ASSERT_EQ(stat((folder / "cache").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0700u);
}

TEST(Seal, MergesWithWhatIsThereInOrderOfFirstUse) {
  TempFolder folder;
  const std::string archive = folder / "a.pla";
  const auto a = MakeModule(folder, "a", 1), b = MakeModule(folder, "b", 2),
             c = MakeModule(folder, "c", 3);
  SealOk(MakeJob(archive, {c, a}, {MakeFolder(folder, "f", {"x"})}));
  const SealOutcome outcome = SealOk(MakeJob(archive, {a, b}, {MakeFolder(folder, "g", {"y"})}));
  EXPECT_EQ(outcome.added, 2u);
  EXPECT_EQ(outcome.kept, 3u);
  EXPECT_TRUE(outcome.written);
  const auto reader = ArchiveReader::Open(PosixFileEnv(), archive, TestKey());
  EXPECT_EQ((*reader)->FindModule(c.path)->order, 0u);
  EXPECT_EQ((*reader)->FindModule(a.path)->order, 1u);
  EXPECT_EQ((*reader)->FindModule(b.path)->order, 2u);
  EXPECT_TRUE((*reader)->FindFolder(folder / "f")->names.Contains("x"));
  EXPECT_TRUE((*reader)->FindFolder(folder / "g")->names.Contains("y"));
  EXPECT_EQ(CodeIn(archive, c.path), CodeOf(3));
}

TEST(Seal, NothingNewIsNotWritten) {
  TempFolder folder;
  const std::string archive = folder / "a.pla";
  const auto job = MakeJob(archive, {MakeModule(folder, "a", 1)}, {MakeFolder(folder, "f", {"x"})});
  SealOk(job);
  struct stat before = {}, after = {};
  stat(archive.c_str(), &before);
  const SealOutcome outcome = SealOk(job);
  EXPECT_FALSE(outcome.written);
  EXPECT_EQ(outcome.added, 0u);
  EXPECT_EQ(outcome.kept, 2u);
  stat(archive.c_str(), &after);
  EXPECT_EQ(before.st_ino, after.st_ino);
  EXPECT_FALSE(SealOk(MakeJob(folder / "none.pla", {})).written);
  EXPECT_FALSE(std::filesystem::exists(folder / "none.pla"));
}

TEST(Seal, ACompressedRecordNeedsNoPyc) {
  TempFolder folder;
  const std::string archive = folder / "a.pla";
  auto a = MakeModule(folder, "a", 1);
  a.pyc_path = "";
  a.frame = *Compress(CodeOf(9), 1);
  a.raw_size = 600;
  SealOk(MakeJob(archive, {a}));
  EXPECT_EQ(CodeIn(archive, a.path), CodeOf(9));
}

TEST(Seal, ABrokenFrameIsDropped) {
  TempFolder folder;
  const std::string archive = folder / "a.pla";
  auto a = MakeModule(folder, "a", 1), b = a, c = a;
  b.path = folder / "b.py";
  std::filesystem::copy_file(a.path, b.path);
  a.frame = *Compress(CodeOf(9), 1);
  a.raw_size = 601;
  b.frame = "no frame";
  b.raw_size = 8;
  const SealOutcome outcome = SealOk(MakeJob(archive, {a, b}));
  EXPECT_EQ(outcome.dropped, 2u);
  EXPECT_FALSE(outcome.written);
}

TEST(Seal, RacyStampsAreDropped) {
  TempFolder folder;
  const std::string archive = folder / "a.pla";
  auto a = MakeModule(folder, "a", 1);
  const auto b = MakeModule(folder, "b", 2);
  a.read_at_ns = a.stamp.mtime_ns + kRacyWindowNs;
  auto f = MakeFolder(folder, "f", {"x"});
  // mtime was set back, so only ctime tells that it was changed a moment ago.
  Age(f.path, 1000);
  struct stat st = {};
  ASSERT_EQ(stat(f.path.c_str(), &st), 0);
  f.stamp = FolderStampOf(st);
  f.read_at_ns = f.stamp.ctime_ns + 1;
  const SealOutcome outcome = SealOk(MakeJob(archive, {a, b}, {f}));
  EXPECT_EQ(outcome.dropped, 2u);
  EXPECT_EQ(outcome.added, 1u);
  EXPECT_FALSE(Has(archive, a.path));
  EXPECT_TRUE(Has(archive, b.path));
}

TEST(Seal, APycThatIsNotOfThatSourceIsRefused) {
  TempFolder folder;
  const std::string archive = folder / "a.pla";
  const auto good = MakeModule(folder, "a", 1);
  const std::string pyc = ReadAll(good.pyc_path);
  const auto refused = [&](const std::string& bytes) {
    WriteAll(good.pyc_path, bytes);
    const SealOutcome outcome = SealOk(MakeJob(archive, {good}));
    return outcome.dropped == 1 && !outcome.written;
  };
  for (const size_t field : {0, 4, 8, 12}) {  // Magic, flags, mtime, size.
    std::string bad = pyc;
    bad[field] ^= 1;
    EXPECT_TRUE(refused(bad)) << field;
  }
  EXPECT_TRUE(refused(pyc.substr(0, 16))) << "no code";
  EXPECT_TRUE(refused(pyc.substr(0, 15)));
  EXPECT_TRUE(refused(""));
  unlink(good.pyc_path.c_str());
  EXPECT_FALSE(SealOk(MakeJob(archive, {good})).written) << "no .pyc";
  WriteAll(good.pyc_path, pyc);
  EXPECT_TRUE(SealOk(MakeJob(archive, {good})).written) << "the test itself";
}

TEST(Seal, ThePycMtimeIsTheOneThatCPythonWrites) {
  // Near the end of a second, os.stat's float is already the next second.
  TempFolder folder;
  auto a = MakeModule(folder, "a", 1);
  const timespec late = {.tv_sec = 1'700'000'000, .tv_nsec = 999'999'999};
  const timespec times[2] = {late, late};
  ASSERT_EQ(utimensat(AT_FDCWD, a.path.c_str(), times, 0), 0);
  struct stat st = {};
  ASSERT_EQ(stat(a.path.c_str(), &st), 0);
  if (st.st_mtim.tv_nsec != 999'999'999) GTEST_SKIP() << "coarse file system";
  a.stamp = SourceStampOf(st);
  SourceStamp as_python = a.stamp;
  as_python.mtime_ns = 1'700'000'001'000'000'000;
  WriteAll(a.pyc_path, PycOf(CodeOf(1), as_python, TestKey().magic));
  EXPECT_EQ(SealOk(MakeJob(folder / "a.pla", {a})).added, 1u);
}

TEST(Seal, OldEntriesThatTheDiskContradictsAreDropped) {
  TempFolder folder;
  const std::string archive = folder / "a.pla";
  const auto gone = MakeModule(folder, "gone", 1), changed = MakeModule(folder, "changed", 2),
             same = MakeModule(folder, "same", 3);
  const auto f = MakeFolder(folder, "f", {"x"}), g = MakeFolder(folder, "g", {"y"}),
             h = MakeFolder(folder, "h", {"z"});
  SealOk(MakeJob(archive, {gone, changed, same}, {f, g, h}));
  unlink(gone.path.c_str());
  WriteAll(changed.path, "another source");
  std::filesystem::remove_all(f.path);
  WriteAll(g.path + "/new", "");
  const SealOutcome outcome = SealOk(MakeJob(archive, {}));
  EXPECT_EQ(outcome.dropped, 4u);
  EXPECT_EQ(outcome.kept, 2u);
  EXPECT_TRUE(outcome.written);
  EXPECT_FALSE(Has(archive, gone.path));
  EXPECT_FALSE(Has(archive, changed.path));
  EXPECT_EQ(CodeIn(archive, same.path), CodeOf(3));
  const auto reader = ArchiveReader::Open(PosixFileEnv(), archive, TestKey());
  EXPECT_FALSE((*reader)->FindFolder(f.path));
  EXPECT_FALSE((*reader)->FindFolder(g.path));
  EXPECT_TRUE((*reader)->FindFolder(h.path));
}

TEST(Seal, ANewRecordWinsOverAStaleEntryAndAStaleRecordLoses) {
  TempFolder folder;
  const std::string archive = folder / "a.pla";
  const auto before = MakeModule(folder, "a", 1);
  SealOk(MakeJob(archive, {before}));
  auto after = MakeModule(folder, "a", 22);
  EXPECT_NE(before.stamp, after.stamp);
  SealOk(MakeJob(archive, {after}));
  EXPECT_EQ(CodeIn(archive, after.path), CodeOf(22));
  // A process that read the old source and seals late must not bring it back.
  const SealOutcome late = SealOk(MakeJob(archive, {before}));
  EXPECT_EQ(late.dropped, 1u);
  EXPECT_FALSE(late.written);
  EXPECT_EQ(CodeIn(archive, after.path), CodeOf(22));
}

TEST(Seal, RefreshDiscardsWhatIsThere) {
  TempFolder folder;
  const std::string archive = folder / "a.pla";
  const auto a = MakeModule(folder, "a", 1), b = MakeModule(folder, "b", 2);
  SealOk(MakeJob(archive, {a}));
  SealJob job = MakeJob(archive, {b});
  job.discard_existing = true;
  const SealOutcome outcome = SealOk(job);
  EXPECT_EQ(outcome.kept, 0u);
  EXPECT_EQ(outcome.added, 1u);
  EXPECT_FALSE(Has(archive, a.path));
  EXPECT_TRUE(Has(archive, b.path));
}

TEST(Seal, ReplacesCorruptForeignAndUntrustedArchives) {
  TempFolder folder;
  const std::string archive = folder / "a.pla";
  const auto job = MakeJob(archive, {MakeModule(folder, "a", 1)});
  const auto expect_replaced = [&](const char* what) {
    EXPECT_FALSE(ArchiveReader::Open(PosixFileEnv(), archive, TestKey())) << what;
    EXPECT_TRUE(SealOk(job).written) << what;
    EXPECT_EQ(CodeIn(archive, job.modules[0].path), CodeOf(1)) << what;
  };
  WriteAll(archive, "garbage");
  expect_replaced("corrupt");
  SealJob other = job;
  other.key.environment = "/other";
  SealOk(other);
  expect_replaced("foreign");
  chmod(archive.c_str(), 0666);
  expect_replaced("untrusted");
  std::filesystem::rename(archive, folder / "elsewhere");
  ASSERT_EQ(symlink("elsewhere", archive.c_str()), 0);
  expect_replaced("a link");
  EXPECT_FALSE(std::filesystem::is_symlink(archive));
}

TEST(Seal, ADamagedFrameIsHealedWhenItsModuleIsReportedAgain) {
  TempFolder folder;
  const std::string archive = folder / "a.pla";
  const auto job = MakeJob(archive, {MakeModule(folder, "a", 1), MakeModule(folder, "b", 2)});
  SealOk(job);
  std::string bytes = ReadAll(archive);
  const auto entry =
      (*ArchiveReader::Open(PosixFileEnv(), archive, TestKey()))->FindModule(job.modules[0].path);
  ASSERT_TRUE(entry);
  bytes[entry->frame_offset + 20] ^= 1;
  WriteAll(archive, bytes);
  const SealOutcome outcome = SealOk(job);
  EXPECT_TRUE(outcome.written);
  EXPECT_EQ(outcome.added, 1u);
  EXPECT_EQ(outcome.kept, 1u);
  EXPECT_EQ(CodeIn(archive, job.modules[0].path), CodeOf(1));
}

TEST(Seal, ADamagedIndexEntryIsHealed) {
  TempFolder folder;
  const std::string archive = folder / "a.pla";
  const auto job = MakeJob(archive, {MakeModule(folder, "a", 1), MakeModule(folder, "b", 2)});
  SealOk(job);
  std::string bytes = ReadAll(archive);
  bytes[bytes.size() - 3] ^= 1;  // In the path of the module that is last in the pool.
  WriteAll(archive, bytes);
  EXPECT_NE(Has(archive, job.modules[0].path), Has(archive, job.modules[1].path));
  EXPECT_TRUE(SealOk(job).written);
  EXPECT_EQ(CodeIn(archive, job.modules[0].path), CodeOf(1));
  EXPECT_EQ(CodeIn(archive, job.modules[1].path), CodeOf(2));
  EXPECT_FALSE(SealOk(job).written);
}

TEST(Seal, RemovesOldTempFilesOfKilledWritersAndNothingElse) {
  TempFolder folder;
  const std::string archive = folder / "a.pla";
  const std::string old = archive + ".tmp.0123456789abcdef",
                    fresh = archive + ".tmp.1123456789abcdef",
                    other = folder / "b.pla.tmp.0123456789abcdef", kept = archive + ".tmp.notes";
  for (const auto& path : {old, fresh, other, kept}) WriteAll(path, "x");
  for (const auto& path : {old, other, kept}) Age(path, 2 * 3600);
  SealOk(MakeJob(archive, {MakeModule(folder, "a", 1)}));
  for (const auto& path : {old, other}) EXPECT_FALSE(std::filesystem::exists(path)) << path;
  for (const auto& path : {fresh, kept}) EXPECT_TRUE(std::filesystem::exists(path)) << path;
}

// ------------------------------------------------------------------------------------- digests

TEST(SealDigest, OnlyCodeThatWasCompiledHasOne) {
  TempFolder folder;
  auto from_pyc = MakeModule(folder, "a", 1), compiled = MakeModule(folder, "b", 2);
  compiled.compiled = true;
  SealOk(MakeJob(folder / "a.pla", {from_pyc, compiled}));
  const auto reader = ArchiveReader::Open(PosixFileEnv(), folder / "a.pla", TestKey());
  EXPECT_FALSE((*reader)->FindModule(from_pyc.path)->digest);
  EXPECT_EQ((*reader)->FindModule(compiled.path)->digest, DigestOf(ReadAll(compiled.path)));
}

TEST(SealDigest, ACompiledRecordGivesAnOldEntryItsDigest) {
  TempFolder folder;
  auto module = MakeModule(folder, "a", 1);
  SealOk(MakeJob(folder / "a.pla", {module}));
  module.compiled = true;
  EXPECT_TRUE(SealOk(MakeJob(folder / "a.pla", {module})).written);
  EXPECT_FALSE(SealOk(MakeJob(folder / "a.pla", {module})).written);
}

// What a process asks for that found the archive's code proved by digest, under another stamp.
ModuleRecord Restamped(const ModuleRecord& module) {
  ModuleRecord record;
  record.path = module.path;
  record.stamp = SourceStampOf(*PosixFileEnv().Stat(module.path));
  record.read_at_ns = PosixFileEnv().NowNs();
  return record;
}

TEST(SealDigest, GivesAnEntryItsNewStamp) {
  TempFolder folder;
  const std::string archive = folder / "a.pla";
  auto module = MakeModule(folder, "a", 1);
  module.compiled = true;
  SealOk(MakeJob(archive, {module}));
  Age(module.path, 30);
  const ModuleRecord restamped = Restamped(module);
  ASSERT_NE(restamped.stamp, module.stamp);
  EXPECT_EQ(SealOk(MakeJob(archive, {restamped})).added, 1u);
  EXPECT_EQ(CodeIn(archive, module.path), CodeOf(1));
  const auto reader = ArchiveReader::Open(PosixFileEnv(), archive, TestKey());
  EXPECT_EQ((*reader)->FindModule(module.path)->stamp, restamped.stamp);
}

TEST(SealDigest, NoNewStampForOtherBytesOrWithoutADigest) {
  TempFolder folder;
  const std::string archive = folder / "a.pla";
  auto changed = MakeModule(folder, "a", 1), undigested = MakeModule(folder, "b", 2);
  changed.compiled = true;
  SealOk(MakeJob(archive, {changed, undigested}));
  std::string source = ReadAll(changed.path);
  source[3] ^= 1;
  WriteAll(changed.path, source);
  for (const auto& module : {changed, undigested}) Age(module.path, 30);
  const auto job = MakeJob(archive, {Restamped(changed), Restamped(undigested)});
  EXPECT_EQ(SealOk(job).added, 0u);
  EXPECT_FALSE(Has(archive, changed.path));
  EXPECT_FALSE(Has(archive, undigested.path));
}

TEST(SealDigest, AnEntryWithOneSurvivesAnotherTimeOfItsSource) {
  TempFolder folder;
  const std::string archive = folder / "a.pla";
  auto module = MakeModule(folder, "a", 1);
  module.compiled = true;
  SealOk(MakeJob(archive, {module}));
  Age(module.path, 30);
  SealOk(MakeJob(archive, {MakeModule(folder, "b", 2)}));
  EXPECT_TRUE(Has(archive, module.path));
  unlink(module.path.c_str());
  SealOk(MakeJob(archive, {MakeModule(folder, "c", 3)}));
  EXPECT_FALSE(Has(archive, module.path));
}

// ----------------------------------------------------------------------------------- additions

// An archive that is too large to be rewritten for a trifle.
class SealDelta : public testing::Test {
 protected:
  void SetUp() override {
    std::vector<ModuleRecord> modules;
    for (int i = 0; i < 12; ++i) {
      modules.push_back(MakeModule(folder_, "big" + std::to_string(i), i, 1'500'000));
    }
    SealOk(MakeJob(archive_, modules, {MakeFolder(folder_, "f", {"x"})}));
    ASSERT_GT(std::filesystem::file_size(archive_), 3u << 20);
    base_ = ReadAll(archive_);
    first_ = modules[0];
  }
  std::optional<std::string> Code(const std::string& path) {
    const auto archive = Archive::Open(PosixFileEnv(), archive_, TestKey());
    if (!archive) return {};
    const auto module = (*archive)->FindModule(path);
    std::string code;
    if (!module || !module->in->ReadCode(module->entry, &code)) return {};
    return code;
  }

  TempFolder folder_;
  const std::string archive_ = folder_ / "a.pla";
  std::string base_;
  ModuleRecord first_;
};

TEST_F(SealDelta, ATrifleLeavesTheArchiveAlone) {
  const auto a = MakeModule(folder_, "a", 50), b = MakeModule(folder_, "b", 51);
  for (const auto& module : {a, b}) {
    const auto outcome = SealOk(MakeJob(archive_, {module}));
    EXPECT_TRUE(outcome.written && outcome.delta);
  }
  EXPECT_EQ(ReadAll(archive_), base_);
  EXPECT_EQ(Code(a.path), CodeOf(50));
  EXPECT_EQ(Code(b.path), CodeOf(51));
  EXPECT_EQ(Code(first_.path), CodeOf(0, 1'500'000));
  EXPECT_FALSE(SealOk(MakeJob(archive_, {a, first_})).written);
}

TEST_F(SealDelta, WinsOverAStaleEntryOfTheArchive) {
  const auto changed = MakeModule(folder_, "big0", 77);
  EXPECT_TRUE(SealOk(MakeJob(archive_, {changed})).delta);
  EXPECT_EQ(Code(changed.path), CodeOf(77));
}

TEST_F(SealDelta, BecomesOneWithTheArchiveWhenItGrows) {
  const auto a = MakeModule(folder_, "a", 50);
  SealOk(MakeJob(archive_, {a}));
  std::vector<ModuleRecord> many;
  for (int i = 20; i < 26; ++i) {
    many.push_back(MakeModule(folder_, "more" + std::to_string(i), i, 1'500'000));
  }
  EXPECT_FALSE(SealOk(MakeJob(archive_, many)).delta);
  EXPECT_FALSE(std::filesystem::exists(DeltaPath(archive_)));
  EXPECT_EQ(CodeIn(archive_, a.path), CodeOf(50));
  EXPECT_EQ(CodeIn(archive_, many[5].path), CodeOf(25, 1'500'000));
  EXPECT_EQ(CodeIn(archive_, first_.path), CodeOf(0, 1'500'000));
}

TEST_F(SealDelta, RefreshAndDamageDiscardIt) {
  const auto a = MakeModule(folder_, "a", 50);
  SealOk(MakeJob(archive_, {a}));
  WriteAll(DeltaPath(archive_), "garbage");
  EXPECT_FALSE(Archive::Open(PosixFileEnv(), archive_, TestKey()));
  EXPECT_FALSE(SealOk(MakeJob(archive_, {a})).delta);
  EXPECT_EQ(Code(a.path), CodeOf(50));
  EXPECT_EQ(Code(first_.path), CodeOf(0, 1'500'000)) << "the archive itself was good";
  SealOk(MakeJob(archive_, {MakeModule(folder_, "b", 51)}));
  ASSERT_TRUE(std::filesystem::exists(DeltaPath(archive_)));
  SealJob refresh = MakeJob(archive_, {first_});
  refresh.discard_existing = true;
  SealOk(refresh);
  EXPECT_FALSE(std::filesystem::exists(DeltaPath(archive_)));
  EXPECT_EQ(Code(a.path), std::nullopt);
}

TEST_F(SealDelta, WhicheverOperationFailsNothingIsLost) {
  const auto a = MakeModule(folder_, "a", 50), b = MakeModule(folder_, "b", 51);
  SealOk(MakeJob(archive_, {a}));
  int n = 0;
  for (;; ++n) {
    FaultyFileEnv env;
    env.FailAt(n);
    const auto outcome = Seal(env, MakeJob(archive_, {b}));
    EXPECT_EQ(Code(a.path), CodeOf(50)) << env.fired_names();
    EXPECT_EQ(Code(first_.path), CodeOf(0, 1'500'000)) << env.fired_names();
    EXPECT_TRUE(TempFilesOf(DeltaPath(archive_)).empty()) << env.fired_names();
    if (env.fired() == 0) break;
    SealJob again = MakeJob(archive_, {a});
    unlink(DeltaPath(archive_).c_str());
    SealOk(again);
  }
  EXPECT_GT(n, 10);
  EXPECT_EQ(Code(b.path), CodeOf(51));
}

// The real program, as pylaunch starts it.
int RunSealer(const std::string& bytes) {
  const int fd = memfd_create("job", 0);
  EXPECT_EQ(write(fd, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  const pid_t pid = fork();
  if (pid == 0) {
    const std::string number = std::to_string(fd);
    execl(PYLAUNCH_SEALER, PYLAUNCH_SEALER, number.c_str(), nullptr);
    _exit(127);
  }
  close(fd);
  int status = -1;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(Sealer, SealsTheJobInItsDescriptor) {
  TempFolder folder;
  const std::string archive = folder / "a.pla";
  const auto a = MakeModule(folder, "a", 1);
  EXPECT_EQ(RunSealer(MakeJob(archive, {a}).Serialize()), 0);
  EXPECT_EQ(CodeIn(archive, a.path), CodeOf(1));
  EXPECT_EQ(TakeNote(PosixFileEnv(), archive), "");
  EXPECT_EQ(RunSealer("nonsense"), 1);
  EXPECT_EQ(RunSealer(""), 1);
}

TEST(Sealer, LeavesANoteOfWhatWentWrong) {
  TempFolder folder;
  const std::string archive = folder / "a.pla";
  std::filesystem::create_directory(archive);
  WriteAll(archive + "/file", "so that rename cannot replace it");
  EXPECT_EQ(RunSealer(MakeJob(archive, {MakeModule(folder, "a", 1)}).Serialize()), 1);
  EXPECT_NE(TakeNote(PosixFileEnv(), archive).find(archive), std::string::npos);
}

}  // namespace
}  // namespace pylaunch::cache
