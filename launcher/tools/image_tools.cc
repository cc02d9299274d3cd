#include "launcher/tools/image_tools.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <string_view>
#include <vector>

#include "cache/file_env.h"
#include "image/image_files.h"
#include "image/packed_proofs.h"
#include "image/restraint.h"
#include "launcher/contract/tool_text.h"

namespace pylaunch {
namespace {

using cache::Standing;
using image::ImageSummary;
using Json = nlohmann::ordered_json;

constexpr size_t kMostDifferences = 10;

// "valid", "stale", "elsewhere", "dead", "another user's" or "unusable".
const char* State(const ImageSummary& image) {
  if (image.foreign) return "another user's";
  if (image.error) return "unusable";
  switch (image.standing) {
    case Standing::kAlive:
      return "valid";
    case Standing::kStale:
      return "stale";
    case Standing::kUnknown:
      return "elsewhere";
    default:
      return "dead";
  }
}

// The same, and why, for people.
std::string Words(const ImageSummary& image) {
  std::string words = State(image);
  if (image.error) return words + ": " + image.error->message;
  if (image.difference.empty()) return words;
  const bool alive = image.standing == Standing::kAlive;
  return words + (alive ? ", but not from here: " : ": ") + image.difference;
}

// Python's, less the -c or -m that stands for the kind.
std::vector<std::string> PythonOptions(const ImageSummary& image) {
  std::vector<std::string> options;
  std::string_view text = image.Value(image::kPythonOptions);
  for (size_t end; (end = text.find('\n')) != text.npos; text.remove_prefix(end + 1)) {
    options.emplace_back(text.substr(0, end));
  }
  if (!text.empty() && text != image.Value(image::kProgramKind)) options.emplace_back(text);
  return options;
}

std::string Reads(const image::VariableReads& reads) {
  if (!reads.all.empty()) return "all variables: " + reads.all;
  std::string text = std::to_string(reads.names.size()) + " variables";
  for (const std::string& prefix : reads.prefixes) text += ", " + prefix + "*";
  return text;
}

void PrintImage(const ImageSummary& image) {
  std::printf("%s\n", image.path.c_str());
  if (!image.foreign && !image.error) {
    std::string options;
    for (const std::string& option : PythonOptions(image)) options += option + " ";
    std::printf("  for      %s %s(%s in %s)\n", image.Value(image::kPython).c_str(),
                options.c_str(), image.Value(image::kProgramKind).c_str(),
                image.Value(image::kProgramFolder).c_str());
    std::printf("  proved   by %zu files and %zu folders\n", image::CountProofs(image.key.files),
                image.key.folders.size());
    std::printf("  read     %s\n", Reads(image.key.reads).c_str());
    for (const std::string& fact : image.key.asked) std::printf("  asked    %s\n", fact.c_str());
    for (const std::string& late : image.key.late) std::printf("  late     %s\n", late.c_str());
    if (!image.key.boot.empty())
      std::printf("  boot     this one only: %s\n", image.key.boot.c_str());
  }
  std::printf("  state    %s\n", Words(image).c_str());
  std::printf("  file     %.1f MiB (%.1f on disk), made %" PRId64 " s ago, used %" PRId64
              " s ago\n",
              MiB(image.bytes), MiB(image.disk_bytes), SecondsSince(image.created_ns),
              SecondsSince(image.last_use_ns));
}

void PrintDivergence(const image::Divergence& divergence) {
  std::printf("the %zu images %s-* of one command differ in\n", divergence.images,
              divergence.family.c_str());
  const size_t shown = std::min(divergence.items.size(), kMostDifferences);
  for (size_t i = 0; i < shown; ++i) {
    const auto& [fact, values] = divergence.items[i];
    std::printf("  %s (%zu values)\n", fact.c_str(), values);
  }
  const size_t more = divergence.items.size() - shown;
  if (more > 0) std::printf("  and %zu more, which --json lists\n", more);
}

}  // namespace

bool ReadImages(const std::string& cache_folder, char** environment, bool check,
                image::Collection* collection) {
  if (cache_folder.empty()) return true;
  auto found = image::Collect(cache::UnnoticedFileEnv(), cache_folder + "/" + image::kImagesFolder,
                              environment, check);
  if (!found) {
    PrintError(found.error(), kUnlistableHint);
    return false;
  }
  *collection = std::move(*found);
  return true;
}

void DropNotesInAdvance(image::Collection* collection) {
  std::erase_if(collection->notes, [](const image::Leftover& note) {
    return note.why.starts_with(image::kUnfinished) &&
           image::IsBeingMade(cache::FolderOf(note.path));
  });
}

bool IsRight(const ImageSummary& image) { return !image.error && image.wrong.empty(); }

void PrintStats(const image::Collection& collection) {
  for (const ImageSummary& image : collection.images) PrintImage(image);
  for (const image::Divergence& divergence : image::Divergences(collection)) {
    PrintDivergence(divergence);
  }
  for (const image::Leftover& note : collection.notes) {
    std::printf("%s\n  no image %s\n  asked    %" PRId64 " s ago\n", note.path.c_str(),
                note.why.c_str(), note.age_ns / 1'000'000'000);
  }
  for (const image::Leftover& file : collection.temporary) {
    std::printf("%s\n  being written, or left over: %.1f MiB, %" PRId64 " s old\n",
                file.path.c_str(), MiB(file.bytes), file.age_ns / 1'000'000'000);
  }
}

void PrintVerdict(const ImageSummary& image) {
  if (image.foreign) {
    std::printf("- %s: another user's, not read\n", image.path.c_str());
  } else if (IsRight(image)) {
    std::printf("✓ %s: %.1f MiB, proved by %zu files and %zu folders (%s)\n", image.path.c_str(),
                MiB(image.bytes), image::CountProofs(image.key.files), image.key.folders.size(),
                Words(image).c_str());
  }
  if (IsRight(image)) return;
  std::printf("✗ %s\n", image.path.c_str());
  if (image.error) std::printf("  cause: %s\n", image.error->message.c_str());
  for (const std::string& wrong : image.wrong) std::printf("  cause: %s\n", wrong.c_str());
  std::puts("  hint:  remove it with its key; the next start with --image makes another");
}

Json ToJson(const ImageSummary& image) {
  Json json{{"path", image.path},
            {"bytes", image.bytes},
            {"disk_bytes", image.disk_bytes},
            {"created", Seconds(image.created_ns)},
            {"last_used", Seconds(image.last_use_ns)},
            {"family", image::FamilyOf(image.path)},
            {"state", State(image)}};
  if (image.error) json["error"] = image.error->message;
  if (image.foreign || image.error) return json;
  json["why"] = image.difference.empty() ? Json() : Json(image.difference);
  json["here"] = image.difference.empty();
  json["python"] = image.Value(image::kPython);
  json["program"] = {{"kind", image.Value(image::kProgramKind)},
                     {"folder", image.Value(image::kProgramFolder)},
                     {"options", PythonOptions(image)}};
  json["files"] = image::CountProofs(image.key.files);
  json["folders"] = image.key.folders.size();
  json["variables"] = {{"all", image.key.reads.all.empty() ? Json() : Json(image.key.reads.all)},
                       {"names", image.key.reads.names},
                       {"prefixes", image.key.reads.prefixes}};
  json["asked"] = image.key.asked;
  json["late"] = image.key.late;
  json["boot"] = image.key.boot;
  return json;
}

Json ToJson(const std::vector<image::Divergence>& divergences) {
  Json list = Json::array();
  for (const image::Divergence& divergence : divergences) {
    Json facts = Json::array();
    for (const auto& [fact, values] : divergence.items) {
      facts.push_back({{"fact", fact}, {"values", values}});
    }
    list.push_back({{"family", divergence.family},
                    {"images", divergence.images},
                    {"facts", std::move(facts)}});
  }
  return list;
}

Json ToJson(const std::vector<image::Leftover>& leftovers) {
  Json list = Json::array();
  for (const image::Leftover& leftover : leftovers) {
    list.push_back(
        {{"path", leftover.path}, {"bytes", leftover.bytes}, {"age", Seconds(leftover.age_ns)}});
    if (!leftover.why.empty()) list.back()["why"] = leftover.why;
  }
  return list;
}

}  // namespace pylaunch
