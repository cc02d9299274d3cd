#include "launcher/python_home/records.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <iterator>
#include <string_view>
#include <utility>

#include "absl/strings/escaping.h"
#include "cache/descriptor.h"
#include "nlohmann/json.hpp"

namespace pylaunch::home {
namespace {

constexpr int kRecordFormat = 1;
constexpr size_t kMaxRecordSize = 1 << 16;

// Paths are escaped because JSON holds only UTF-8.
std::string ToJson(const Record& record) {
  nlohmann::json answers = nlohmann::json::array();
  for (const Known& known : record.answers) {
    answers.push_back({{"inputs", known.inputs},
                       {"executable", absl::CEscape(known.executable)},
                       {"stamp", known.executable_stamp.parts},
                       {"version", known.version},
                       {"implementation", known.implementation},
                       {"free_threaded", known.free_threaded}});
  }
  const nlohmann::json all = {{"format", kRecordFormat},
                              {"candidate", absl::CEscape(record.candidate)},
                              {"stamp", record.candidate_stamp.parts},
                              {"answers", std::move(answers)}};
  return all.dump(1);
}

std::string PathFromJson(const nlohmann::json& value) {
  std::string path;
  return absl::CUnescape(value.get<std::string>(), &path) ? path : "";
}

std::optional<Record> FromJson(std::string_view text) try {
  const nlohmann::json all = nlohmann::json::parse(text.begin(), text.end());
  if (all.at("format") != kRecordFormat) return std::nullopt;
  Record record;
  record.candidate = PathFromJson(all.at("candidate"));
  record.candidate_stamp.parts = all.at("stamp").get<std::array<int64_t, 4>>();
  for (const nlohmann::json& answer : all.at("answers")) {
    Known& known = record.answers.emplace_back();
    known.inputs = answer.at("inputs").get<std::string>();
    known.executable = PathFromJson(answer.at("executable"));
    known.executable_stamp.parts = answer.at("stamp").get<std::array<int64_t, 4>>();
    known.version = answer.at("version").get<std::string>();
    known.implementation = answer.at("implementation").get<std::string>();
    known.free_threaded = answer.at("free_threaded").get<bool>();
  }
  return record;
} catch (const nlohmann::json::exception&) {
  return std::nullopt;
}

void MakeFolders(const std::string& folder) {
  if (mkdir(folder.c_str(), 0700) == 0 || errno != ENOENT || folder == "/") return;
  MakeFolders(Folder(folder));
  mkdir(folder.c_str(), 0700);
}

}  // namespace

std::optional<Record> LoadRecord(const std::string& path) {
  const cache::Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat state;
  if (!file.ok() || fstat(file.get(), &state) != 0) return std::nullopt;
  const bool trusted =
      S_ISREG(state.st_mode) && state.st_uid == geteuid() && (state.st_mode & 022) == 0;
  if (!trusted || state.st_size > static_cast<off_t>(kMaxRecordSize)) return std::nullopt;
  const std::optional<std::string> text = ReadUpTo(file.get(), static_cast<size_t>(state.st_size));
  return text.has_value() ? FromJson(*text) : std::nullopt;
}

// Not synced: a record torn by a crash is no record.
void SaveRecord(const std::string& path, const Record& record) {
  MakeFolders(Folder(path));
  std::string temporary = path + ".XXXXXX";
  cache::Descriptor file(mkostemp(temporary.data(), O_CLOEXEC));  // Mode 0600.
  if (!file.ok()) return;
  const std::string text = ToJson(record);
  const bool written = write(file.get(), text.data(), text.size()) == std::ssize(text);
  file.Close();
  if (!written || rename(temporary.c_str(), path.c_str()) != 0) unlink(temporary.c_str());
}

}  // namespace pylaunch::home
