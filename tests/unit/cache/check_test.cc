#include "cache/check.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/archive.h"
#include "cache/archive_reader.h"
#include "cache/archive_writer.h"
#include "faulty_file_env.h"
#include "test_util.h"

namespace pylaunch::cache {
namespace {

class CheckTest : public testing::Test {
 protected:
  void SetUp() override {
    from_pyc_ = MakeModule(folder_, "from_pyc", 1);
    compiled_ = MakeModule(folder_, "compiled", 2);
    compiled_.compiled = true;
    SealOk(MakeJob(archive_, {from_pyc_, compiled_}, {MakeFolder(folder_, "f", {"x.py"})}));
  }
  ArchiveSummary Checked() { return Check(PosixFileEnv(), archive_); }
  // Puts mtime back, as archivers and `touch -r` do. ctime moves all the same.
  void Rewrite(const std::string& path, const std::string& bytes) {
    WriteAll(path, bytes);
    Age(path, 60);
  }

  TempFolder folder_;
  const std::string archive_ = folder_ / "a.pla";
  ModuleRecord from_pyc_, compiled_;
};

TEST_F(CheckTest, AGoodArchive) {
  const ArchiveSummary summary = Checked();
  EXPECT_FALSE(summary.error);
  EXPECT_EQ(summary.key, TestKey().Text());
  EXPECT_EQ(summary.modules, 2u);
  EXPECT_EQ(summary.folders, 1u);
  EXPECT_EQ(summary.code_bytes, 1200u);
  EXPECT_EQ(summary.file_bytes, ReadAll(archive_).size());
  EXPECT_TRUE(summary.wrong.empty());
  EXPECT_EQ(summary.stale, 0u);
}

TEST_F(CheckTest, ChangedAndVanishedSourcesAreStaleAndNotWrong) {
  Rewrite(from_pyc_.path, "something else");
  Rewrite(compiled_.path, "something else");
  EXPECT_EQ(Checked().stale, 2u);
  unlink(from_pyc_.path.c_str());
  unlink(compiled_.path.c_str());
  EXPECT_EQ(Checked().stale, 2u);
  EXPECT_TRUE(Checked().wrong.empty());
}

TEST_F(CheckTest, ATouchedSourceIsStaleUnlessItsDigestProvesIt) {
  for (const auto& module : {from_pyc_, compiled_}) Age(module.path, 30);
  EXPECT_EQ(Checked().stale, 1u);
}

TEST_F(CheckTest, OtherBytesUnderOneStampAreWrong) {
  // A file system that lies: the stamp is set by hand to what the other bytes have.
  std::string source = ReadAll(compiled_.path);
  source[2] ^= 1;
  Rewrite(compiled_.path, source);
  auto reader = ArchiveReader::Open(PosixFileEnv(), archive_, TestKey());
  const auto entry = (*reader)->FindModule(compiled_.path);
  ASSERT_TRUE(entry && entry->digest);
  auto writer = ArchiveWriter::Create(PosixFileEnv(), archive_, TestKey());
  const auto st = PosixFileEnv().Stat(compiled_.path);
  ASSERT_TRUE((*writer)->AddModule(compiled_.path, SourceStampOf(*st), entry->digest, CodeOf(2)));
  ASSERT_TRUE((*writer)->Finish());
  const ArchiveSummary summary = Checked();
  ASSERT_EQ(summary.wrong.size(), 1u);
  EXPECT_NE(summary.wrong[0].find(compiled_.path), std::string::npos);
}

TEST_F(CheckTest, DamageIsWrong) {
  auto reader = ArchiveReader::Open(PosixFileEnv(), archive_, TestKey());
  const uint64_t frame = (*reader)->FindModule(from_pyc_.path)->frame_offset;
  std::string bytes = ReadAll(archive_);
  bytes[frame + 9] ^= 1;
  WriteAll(archive_, bytes);
  ASSERT_EQ(Checked().wrong.size(), 1u);
  EXPECT_NE(Checked().wrong[0].find(from_pyc_.path), std::string::npos);
  bytes[bytes.size() - 60] ^= 1;
  WriteAll(archive_, bytes);
  ASSERT_TRUE(Checked().error);
  EXPECT_EQ(Checked().error->code, ErrorCode::kCorrupt);
}

TEST_F(CheckTest, FindsArchivesAndTheirAdditions) {
  WriteAll(DeltaPath(archive_), "");
  const auto found = ArchivesIn(PosixFileEnv(), folder_.path());
  ASSERT_TRUE(found);
  EXPECT_EQ(*found, (std::vector<std::string>{DeltaPath(archive_), archive_}));
  EXPECT_TRUE(ArchivesIn(PosixFileEnv(), folder_ / "absent")->empty());
  FaultyFileEnv env;
  env.FailAll("ListFolder");
  EXPECT_FALSE(ArchivesIn(env, folder_.path()));
}

}  // namespace
}  // namespace pylaunch::cache
