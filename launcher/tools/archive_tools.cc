#include "launcher/tools/archive_tools.h"

#include <cinttypes>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <vector>

#include "cache/check.h"
#include "cache/file_env.h"
#include "cache/prune.h"
#include "cache/stamp.h"
#include "image/image_files.h"
#include "launcher/contract/tool_text.h"
#include "launcher/tools/image_tools.h"

namespace pylaunch {
namespace {

using cache::ArchiveSummary;
using Json = nlohmann::ordered_json;

// More of one kind would hide the others.
constexpr size_t kMostLines = 10;

Json ToJson(const ArchiveSummary& archive) {
  Json json{{"path", archive.path}, {"usable", !archive.error.has_value()}};
  if (archive.error) {
    json["error"] = archive.error->message;
    return json;
  }
  json["key"] = archive.key;
  json["environment_gone"] = !archive.gone.empty();
  json["modules"] = archive.modules;
  json["folders"] = archive.folders;
  json["code_bytes"] = archive.code_bytes;
  json["frame_bytes"] = archive.frame_bytes;
  json["file_bytes"] = archive.file_bytes;
  json["created"] = Seconds(archive.created_ns);
  json["last_used"] = Seconds(archive.last_use_ns);
  return json;
}

// Summaries of all archives in `folder`, by `read`; false, with a word on stderr: it cannot be
// listed.
bool ReadAll(const std::string& folder, ArchiveSummary (*read)(cache::FileEnv&, const std::string&),
             std::vector<ArchiveSummary>* archives) {
  if (folder.empty()) return true;
  cache::FileEnv& env = cache::UnnoticedFileEnv();
  const auto paths = cache::ArchivesIn(env, folder);
  if (!paths) {
    PrintError(paths.error(), kUnlistableHint);
    return false;
  }
  for (const std::string& path : *paths) archives->push_back(read(env, path));
  return true;
}

// What writers of archives have left, or are writing.
void AddTemporary(const std::string& folder, std::vector<image::Leftover>* temporary) {
  cache::FileEnv& env = cache::UnnoticedFileEnv();
  const auto names = env.ListFolder(folder);
  for (const std::string& name : names ? *names : std::vector<std::string>()) {
    const auto st = env.Stat(folder + "/" + name);
    if (!st || !cache::IsTempName(name)) continue;
    temporary->push_back({folder + "/" + name, static_cast<uint64_t>(st->st_size),
                          env.NowNs() - cache::NanosecondsOf(st->st_mtim), ""});
  }
}

void PrintNone(const CachePlace& cache) {
  if (cache.folder.empty()) {
    std::printf("no cache folder: %s\n", cache.why_none.c_str());
  } else {
    std::printf("no archive and no image in %s\n", cache.folder.c_str());
  }
}

// What every report begins with.
Json Head(const CachePlace& cache) {
  Json json{{"folder", cache.folder}};
  if (cache.folder.empty()) json["why"] = cache.why_none;
  return json;
}

void PrintStats(const ArchiveSummary& archive) {
  std::printf("%s\n", archive.path.c_str());
  if (archive.error) {
    std::printf("  unusable: %s\n", archive.error->message.c_str());
    return;
  }
  std::printf("  for      %s\n", archive.key.c_str());
  if (!archive.gone.empty()) std::printf("  dead     %s is gone\n", archive.gone.c_str());
  std::printf("  modules  %" PRIu32 " (%.1f MiB of bytecode in %.1f MiB)\n", archive.modules,
              MiB(archive.code_bytes), MiB(archive.frame_bytes));
  std::printf("  folders  %" PRIu32 "\n", archive.folders);
  std::printf("  file     %.1f MiB, written %" PRId64 " s ago, used %" PRId64 " s ago\n",
              MiB(archive.file_bytes), SecondsSince(archive.created_ns),
              SecondsSince(archive.last_use_ns));
}

bool IsRight(const ArchiveSummary& archive) { return !archive.error && archive.wrong.empty(); }

void PrintVerdict(const ArchiveSummary& archive) {
  if (IsRight(archive)) {
    std::printf("✓ %s: %" PRIu32 " modules, %" PRIu32 " folders", archive.path.c_str(),
                archive.modules, archive.folders);
    if (archive.stale + archive.stale_folders > 0) {
      std::printf(" (%" PRIu32 " and %" PRIu32 " stale)", archive.stale, archive.stale_folders);
    }
    std::puts("");
    return;
  }
  std::printf("✗ %s\n", archive.path.c_str());
  if (archive.error) std::printf("  cause: %s\n", archive.error->message.c_str());
  for (size_t i = 0; i < archive.wrong.size() && i < kMostLines; ++i) {
    std::printf("  cause: %s\n", archive.wrong[i].c_str());
  }
  if (archive.wrong.size() > kMostLines) {
    std::printf("  cause: and %zu more\n", archive.wrong.size() - kMostLines);
  }
  std::puts("  hint:  remove it, or start once with --cache-mode refresh");
}

Json ToJson(const std::vector<cache::Holding>& holdings) {
  Json list = Json::array();
  for (const auto& holding : holdings) {
    list.push_back({{"path", holding.path},
                    {"bytes", holding.bytes},
                    {"last_used", Seconds(holding.last_use_ns)}});
  }
  return list;
}

}  // namespace

int Stats(const CachePlace& cache, char** environment, bool json) {
  const std::string& folder = cache.folder;
  std::vector<ArchiveSummary> archives;
  image::Collection collection;
  if (!ReadAll(folder, cache::Summarize, &archives) ||
      !ReadImages(folder, environment, /*check=*/false, &collection)) {
    return 1;
  }
  AddTemporary(folder, &collection.temporary);
  DropNotesInAdvance(&collection);
  int status = 0;
  uint64_t total = 0;
  uint64_t images_total = 0;
  Json list = Json::array(), images = Json::array();
  for (const ArchiveSummary& archive : archives) {
    if (archive.error) status = 1;
    total += archive.file_bytes;
    if (json) list.push_back(ToJson(archive));
    if (!json) PrintStats(archive);
  }
  for (const image::ImageSummary& image : collection.images) {
    if (image.error) status = 1;
    images_total += image.disk_bytes;
    if (json) images.push_back(ToJson(image));
  }
  if (json) {
    Json report = Head(cache);
    report.update(Json{{"file_bytes", total},
                       {"archives", std::move(list)},
                       {"images_disk_bytes", images_total},
                       {"images", std::move(images)},
                       {"differences", ToJson(image::Divergences(collection))},
                       {"notes", ToJson(collection.notes)},
                       {"temporary", ToJson(collection.temporary)}});
    Print(report);
    return status;
  }
  PrintStats(collection);
  if (archives.empty() && collection.images.empty()) PrintNone(cache);
  return status;
}

int Verify(const CachePlace& cache, char** environment, bool json) {
  const std::string& folder = cache.folder;
  std::vector<ArchiveSummary> archives;
  image::Collection collection;
  if (!ReadAll(folder, cache::Check, &archives) ||
      !ReadImages(folder, environment, /*check=*/true, &collection)) {
    return 1;
  }
  bool right = true;
  Json list = Json::array(), images = Json::array();
  for (const ArchiveSummary& archive : archives) {
    right = right && IsRight(archive);
    if (!json) {
      PrintVerdict(archive);
      continue;
    }
    list.push_back(ToJson(archive));
    list.back()["ok"] = IsRight(archive);
    list.back()["wrong"] = archive.wrong;
    list.back()["stale_modules"] = archive.stale;
    list.back()["stale_folders"] = archive.stale_folders;
  }
  for (const image::ImageSummary& image : collection.images) {
    right = right && IsRight(image);
    if (!json) {
      PrintVerdict(image);
      continue;
    }
    images.push_back(ToJson(image));
    images.back()["ok"] = IsRight(image);
    images.back()["wrong"] = image.wrong;
  }
  if (json) {
    Json report = Head(cache);
    report.update(
        Json{{"ok", right}, {"archives", std::move(list)}, {"images", std::move(images)}});
    Print(report);
  }
  if (!json && archives.empty() && collection.images.empty()) PrintNone(cache);
  return right ? 0 : 1;
}

int Prune(const CachePlace& cache, uint64_t max_bytes, bool json) {
  const std::string& folder = cache.folder;
  const auto outcome = image::PruneCache(cache::UnnoticedFileEnv(), folder, max_bytes, /*keep=*/"",
                                         /*thoroughly=*/true);
  if (!outcome) {
    PrintError(outcome.error(), kUnlistableHint);
    return 1;
  }
  const bool bounded = max_bytes == 0 || outcome->bytes_after <= max_bytes;
  if (json) {
    Json report = Head(cache);
    report.update(Json{{"max_bytes", max_bytes},
                       {"bytes_before", outcome->bytes_before},
                       {"bytes_after", outcome->bytes_after},
                       {"removed", ToJson(outcome->removed)},
                       {"in_use", ToJson(outcome->in_use)},
                       {"leftovers", outcome->leftovers}});
    Print(report);
    return bounded ? 0 : 1;
  }
  if (folder.empty()) {
    PrintNone(cache);
    return 0;
  }
  for (const auto& holding : outcome->removed) {
    std::printf("removed %s (%.1f MiB, used %" PRId64 " s ago)\n", holding.path.c_str(),
                MiB(holding.bytes), SecondsSince(holding.last_use_ns));
  }
  for (const std::string& path : outcome->leftovers) {
    std::printf("removed %s (left over)\n", path.c_str());
  }
  for (const auto& holding : outcome->in_use) {
    const bool image = holding.path.ends_with(image::kImageSuffix);
    std::printf("kept    %s (%.1f MiB), which %s\n", holding.path.c_str(), MiB(holding.bytes),
                image ? "another host may use" : "is in use");
  }
  std::printf("%.1f MiB of archives and images in %s, were %.1f MiB\n", MiB(outcome->bytes_after),
              folder.c_str(), MiB(outcome->bytes_before));
  return bounded ? 0 : 1;
}

}  // namespace pylaunch
