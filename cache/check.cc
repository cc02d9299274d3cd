#include "cache/check.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "cache/archive_reader.h"
#include "cache/format.h"
#include "cache/memo.h"

namespace pylaunch::cache {
namespace {

constexpr std::string_view kSuffix = ".pla";
constexpr size_t kMaxSource = size_t{256} << 20;

// What the index says. Null: `summary->error` says why not.
std::unique_ptr<ArchiveReader> Read(FileEnv& env, ArchiveSummary* summary) {
  auto reader = ArchiveReader::OpenAny(env, summary->path);
  if (!reader) {
    summary->error = reader.error();
    return nullptr;
  }
  const ArchiveReader& archive = **reader;
  summary->key = archive.key_text();
  summary->gone = GoneEnvironment(env, archive);
  summary->file_bytes = archive.file_size();
  summary->created_ns = archive.created_ns();
  summary->modules = archive.module_count();
  summary->folders = archive.folder_count();
  if (const auto st = env.Stat(summary->path)) summary->last_use_ns = LastUseNs(*st);
  for (uint32_t i = 0; i < archive.module_count(); ++i) {
    const ModuleEntry entry = archive.module(i);
    summary->frame_bytes += entry.frame_size;
    summary->code_bytes += entry.raw_size;
  }
  return std::move(*reader);
}

void CheckModule(FileEnv& env, const ArchiveReader& archive, const ModuleEntry& entry,
                 ArchiveSummary* summary) {
  const std::string path(entry.path);
  std::string code;
  if (auto read = archive.ReadCode(entry, &code); !read) {
    summary->wrong.push_back(read.error().message);
    return;
  }
  if (IsMemoKey(path)) {
    const auto memo = Memo::Parse(code);
    if (!memo) summary->wrong.push_back(path + ": no memo");
    if (memo && !StillHolds(env, memo->files)) ++summary->stale;
    return;
  }
  const auto st = env.Stat(path);
  const bool as_stamped = st && SourceStampOf(*st) == entry.stamp;
  if (!as_stamped && (!st || !entry.digest)) {
    ++summary->stale;
    return;
  }
  if (!entry.digest) return;
  const auto source = env.ReadFile(path, kMaxSource);
  if (source && DigestOf(*source) == *entry.digest) return;
  if (source && as_stamped) {
    summary->wrong.push_back(path +
                             ": other bytes than its code was compiled from, under one stamp");
  } else {
    ++summary->stale;
  }
}

}  // namespace

uint32_t FormatVersion() { return format::kVersion; }

Result<std::vector<std::string>> ArchivesIn(FileEnv& env, const std::string& folder) {
  const auto names = env.ListFolder(folder);
  if (!names && names.error().code != ErrorCode::kNotFound) return tl::unexpected(names.error());
  std::vector<std::string> archives;
  for (const std::string& name : names ? *names : std::vector<std::string>()) {
    if (name.ends_with(kSuffix)) archives.push_back(folder + "/" + name);
  }
  std::sort(archives.begin(), archives.end());
  return archives;
}

std::string GoneEnvironment(FileEnv& env, const ArchiveReader& archive) {
  const std::string environment = EnvironmentOf(archive.key_text());
  if (environment.empty()) return "";
  const auto st = env.Stat(environment);
  return !st && st.error().code == ErrorCode::kNotFound ? environment : "";
}

ArchiveSummary Summarize(FileEnv& env, const std::string& path) {
  ArchiveSummary summary;
  summary.path = path;
  (void)Read(env, &summary);
  return summary;
}

ArchiveSummary Check(FileEnv& env, const std::string& path) {
  ArchiveSummary summary;
  summary.path = path;
  const auto archive = Read(env, &summary);
  if (archive == nullptr) return summary;
  for (uint32_t i = 0; i < archive->module_count(); ++i) {
    const ModuleEntry entry = archive->module(i);
    if (entry.path.empty() || !archive->FindModule(entry.path)) {
      summary.wrong.push_back("the record of a module is damaged or not to be found");
    } else {
      CheckModule(env, *archive, entry, &summary);
    }
  }
  for (uint32_t i = 0; i < archive->folder_count(); ++i) {
    const FolderEntry entry = archive->folder(i);
    if (entry.path.empty() || !archive->FindFolder(entry.path)) {
      summary.wrong.push_back("the record of a folder is damaged or not to be found");
    } else if (const auto st = env.Stat(std::string(entry.path));
               !st || FolderStampOf(*st) != entry.stamp) {
      ++summary.stale_folders;
    }
  }
  return summary;
}

}  // namespace pylaunch::cache
