#include "launcher/engine/archive/transfer.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cache/file_env.h"
#include "cache/prune.h"
#include "cache/transfer.h"
#include "image/holdings.h"
#include "launcher/contract/tool_text.h"
#include "launcher/engine/base/report.h"

namespace pylaunch::engine {
namespace {

using cache::Error;
using cache::ErrorCode;
using cache::TransferOutcome;
using Json = nlohmann::ordered_json;

constexpr int kUsageError = 2;

const char* ImportHint(ErrorCode code) {
  switch (code) {
    case ErrorCode::kNotFound:
      return "pylaunch --export FILE writes one";
    case ErrorCode::kForeign:
      return "export it with this very Python, in an environment at the same path";
    case ErrorCode::kUntrusted:
      return "it must be a regular file of yours or root's that nobody else may write: chmod go-w";
    case ErrorCode::kCorrupt:
      return "copy it once more, or export it anew";
    default:
      return "see whether the cache folder can be written";
  }
}

int Refused(const std::string& what, const Error& error, const char* hint) {
  ErrorReport(what, error.message, hint);
  const bool input = error.code != ErrorCode::kIo && error.code != ErrorCode::kBusy;
  return input ? kUsageError : 1;
}

Json Report(const std::string& file, const std::string& archive, const TransferOutcome& outcome) {
  return {{"file", file},
          {"archive", archive},
          {"file_bytes", outcome.bytes},
          {"modules", outcome.modules},
          {"portable", outcome.portable},
          {"folders", outcome.folders}};
}

int ExportTo(const Handoff& handoff, const std::string& archive, const cache::BuildKey& key) {
  const std::string& file = handoff.export_to;
  const auto outcome = cache::Export(cache::PosixFileEnv(), archive, key, file);
  if (!outcome) {
    return Refused("--export: nothing was written", outcome.error(),
                   outcome.error().code == ErrorCode::kNotFound
                       ? "pylaunch --build makes one, or any start"
                       : "pylaunch --verify tells more");
  }
  if (handoff.json) {
    Print(Report(file, archive, *outcome));
  } else {
    std::printf("%s: %u modules, %u folders; %u modules hold on other hosts, too%s\n", file.c_str(),
                outcome->modules, outcome->folders, outcome->portable,
                outcome->portable < outcome->modules ? " (after --build, more)" : "");
  }
  return 0;
}

int ImportFrom(const Handoff& handoff, const std::string& archive, const cache::BuildKey& key) {
  const std::string& file = handoff.import_from;
  const auto outcome =
      cache::Import(cache::PosixFileEnv(), file, key, archive, handoff.cache_refresh);
  if (!outcome) {
    return Refused("--import: nothing was changed", outcome.error(),
                   ImportHint(outcome.error().code));
  }
  image::HoldingsQuery images;
  images.cache_folder = handoff.cache_folder;
  cache::PruneRequest request;
  request.folder = handoff.cache_folder;
  request.max_bytes = handoff.cache_size;
  request.keep = archive;
  request.others =
      image::HoldingsOf(cache::PosixFileEnv(), images).value_or(std::vector<cache::Holding>());
  (void)cache::Prune(cache::PosixFileEnv(), request);
  if (handoff.json) {
    Json report = Report(file, archive, *outcome);
    report["kept"] = outcome->kept;
    Print(report);
  } else {
    std::printf("%s: %u modules and %u folders added, %u entries kept\n", archive.c_str(),
                outcome->modules, outcome->folders, outcome->kept);
  }
  return 0;
}

}  // namespace

int Transfer(const Handoff& handoff, const std::string& archive, const cache::BuildKey& key) {
  return handoff.export_to.empty() ? ImportFrom(handoff, archive, key)
                                   : ExportTo(handoff, archive, key);
}

}  // namespace pylaunch::engine
