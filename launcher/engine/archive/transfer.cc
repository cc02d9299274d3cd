#include "launcher/engine/archive/transfer.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cache/file_env.h"
#include "cache/transfer.h"
#include "image/collection.h"
#include "image/transfer.h"
#include "launcher/contract/tool_text.h"
#include "launcher/engine/base/report.h"

namespace pylaunch::engine {
namespace {

using cache::Error;
using cache::ErrorCode;
using cache::TransferOutcome;
using image::Carried;
using Json = nlohmann::ordered_json;

constexpr int kUsageError = 2;

const char* ImportHint(ErrorCode code) {
  switch (code) {
    case ErrorCode::kNotFound:
      return "pylaunch --export FILE writes one";
    case ErrorCode::kForeign:
      return "export it with this very Python and pylaunch, in an environment at the same path";
    case ErrorCode::kUntrusted:
      return "it must be a regular file of yours or root's that nobody else may write: chmod go-w";
    case ErrorCode::kCorrupt:
      return "copy it once more, or export it anew";
    default:
      return "see whether the cache folder can be written, and whether the disk has room";
  }
}

int Refused(const std::string& what, const Error& error, const char* hint) {
  ErrorReport(what, error.message, hint);
  const bool input = error.code != ErrorCode::kIo && error.code != ErrorCode::kBusy;
  return input ? kUsageError : 1;
}

Json ToJson(const Carried& image) {
  Json json{{"name", image.name}, {"bytes", image.bytes}};
  if (!image.left_out) json["data_bytes"] = image.data_bytes;
  if (!image.why.empty()) json["why"] = image.why;
  return json;
}

Json Report(const std::string& file, const std::string& archive, const TransferOutcome& outcome,
            const std::vector<Carried>& images) {
  Json report{{"file", file},
              {"archive", archive},
              {"file_bytes", outcome.bytes},
              {"modules", outcome.modules},
              {"portable", outcome.portable},
              {"folders", outcome.folders}};
  for (const char* list : {"images", "images_kept", "images_left_out"})
    report[list] = Json::array();
  for (const Carried& image : images) {
    report[image.left_out ? "images_left_out"
           : image.kept   ? "images_kept"
                          : "images"]
        .push_back(ToJson(image));
  }
  return report;
}

void PrintImages(const std::vector<Carried>& images) {
  for (const Carried& image : images) {
    if (image.left_out) {
      std::printf("  left out %s: %s\n", image.name.c_str(), image.why.c_str());
      continue;
    }
    std::printf("  %s %s: %.1f MiB (%.1f without holes)%s%s\n",
                image.kept ? "kept    " : "image   ", image.name.c_str(), MiB(image.bytes),
                MiB(image.data_bytes),
                image.why.empty() ? "" : "; not for this host: ", image.why.c_str());
  }
}

int ExportTo(const Handoff& handoff, const std::string& archive, const cache::BuildKey& key) {
  const std::string& file = handoff.export_to;
  std::vector<Carried> images;
  const auto load = [&](cache::ArchiveWriter* to) -> cache::Result<void> {
    auto packed = image::PackImages(
        cache::UnnoticedFileEnv(), {handoff.cache_folder, handoff.python, handoff.only_shared}, to);
    if (!packed) return tl::unexpected(packed.error());
    images = std::move(*packed);
    return {};
  };
  const auto outcome = cache::Export(cache::PosixFileEnv(), archive, key, file, load);
  if (!outcome) {
    return Refused("--export: nothing was written", outcome.error(),
                   outcome.error().code == ErrorCode::kNotFound
                       ? "pylaunch --build makes one, or any start"
                       : "pylaunch --verify tells more");
  }
  if (handoff.json) {
    Print(Report(file, archive, *outcome, images));
  } else {
    std::printf("%s: %u modules, %u folders; %u modules hold on other hosts, too%s\n", file.c_str(),
                outcome->modules, outcome->folders, outcome->portable,
                outcome->portable < outcome->modules ? " (after --build, more)" : "");
    PrintImages(images);
  }
  return 0;
}

int ImportFrom(const Handoff& handoff, const std::string& archive, const cache::BuildKey& key) {
  const std::string& file = handoff.import_from;
  cache::FileEnv& env = cache::PosixFileEnv();
  image::Arrivals arrivals(env, handoff.cache_folder, handoff.python, handoff.cache_refresh);
  const auto check = [&](const cache::ArchiveReader& from) { return arrivals.Unpack(from); };
  const auto outcome = cache::Import(env, file, key, archive, handoff.cache_refresh, check);
  if (!outcome) {
    return Refused("--import: nothing was changed", outcome.error(),
                   ImportHint(outcome.error().code));
  }
  if (const auto published = arrivals.Publish(); !published) {
    return Refused("--import: the archive has come, but not all images", published.error(),
                   ImportHint(published.error().code));
  }
  (void)image::PruneCache(env, handoff.cache_folder, handoff.cache_size, archive,
                          /*thoroughly=*/false);
  if (handoff.json) {
    Json report = Report(file, archive, *outcome, arrivals.images());
    report["kept"] = outcome->kept;
    Print(report);
  } else {
    std::printf("%s: %u modules and %u folders added, %u entries kept\n", archive.c_str(),
                outcome->modules, outcome->folders, outcome->kept);
    PrintImages(arrivals.images());
  }
  return 0;
}

}  // namespace

int Transfer(const Handoff& handoff, const std::string& archive, const cache::BuildKey& key) {
  return handoff.export_to.empty() ? ImportFrom(handoff, archive, key)
                                   : ExportTo(handoff, archive, key);
}

}  // namespace pylaunch::engine
