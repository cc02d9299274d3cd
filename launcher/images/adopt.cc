#include "launcher/images/adopt.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cache/descriptor.h"
#include "cache/file_env.h"
#include "image/adoption.h"
#include "image/handoff_variable.h"
#include "image/image_files.h"
#include "image/own_file.h"
#include "image/read_ahead.h"
#include "image/restraint.h"
#include "image/travel.h"
#include "launcher/contract/image_trial.h"

namespace pylaunch {
namespace {

constexpr size_t kMaxDigests = size_t{64} << 20;

bool IsOnlyOurs(const std::string& folder) {
  struct stat st;
  return stat(folder.c_str(), &st) == 0 && image::IsOwn(st, folder);
}

// What its maker has found there, on this machine: why no process can be restored from it.
std::string Try(const image::Facts& now, const Candidate& image) {
  Handoff handoff;
  handoff.library = cache::FolderOf(image::ValueOf(now, image::kEngine));
  return TryImage(handoff, image, /*path=*/"", TrialPages::kNone).why_not;
}

}  // namespace

OpenImage AdoptImage(const image::KeyFile& file, const image::KeyHead& head,
                     const image::ImageOrder& order, CacheMode mode) {
  OpenImage result;
  const std::string path = image::ImageOf(file.path());
  result.why = image::WhyNotHere(head, order.facts);
  const bool rebooted =
      image::ValueOf(head.facts, image::kBoot) != image::ValueOf(order.facts, image::kBoot);
  if (result.why.empty() && rebooted && !head.boot.empty()) {
    result.why = absl::StrCat("none for this boot: ", head.boot);
  }
  if (!result.why.empty()) return result;
  struct stat st;
  cache::Descriptor opened = image::OpenOwn(path, &st);
  if (!opened.ok()) {
    result.why = absl::StrCat(path, ": ", std::strerror(errno));
    return result;
  }
  std::optional<image::ReadingAhead> ahead(std::in_place, opened.get(), /*always=*/true);
  if (mode == CacheMode::kSealed) {
    if (!IsOnlyOurs(cache::FolderOf(path))) {
      result.why = absl::StrCat(cache::FolderOf(path), ": others can write there");
      return result;
    }
    result.inodes = std::string(kAnyInodes);
    result.moved = rebooted;
    result.fd = opened.Release();
    return result;
  }
  result.why = image::WhyNotAdopt(path, order.facts);
  if (!result.why.empty()) return result;
  const auto bytes = cache::PosixFileEnv().ReadFile(image::DigestsOf(path), kMaxDigests);
  const auto digests = bytes ? image::Digests::Parse(*bytes) : std::nullopt;
  const std::optional<image::Key> made = file.Whole();
  if (!digests || !made) {
    result.why = made ? absl::StrCat("none for this host: ", image::DigestsOf(path),
                                     bytes ? " is damaged" : " is not there")
                      : file.Fault();
    return result;
  }
  const image::Adoption adoption =
      image::Adopt({*made, *digests, order.facts, path, opened.get(), order.started_ns});
  result.why = adoption.why_not;
  if (result.why.empty() && image::IsOtherMachine(made->facts, order.facts)) {
    ahead.reset();  // A process that is forked wants to be the only thread.
    result.why = Try(order.facts, {opened.get(), adoption.key.inodes, adoption.key.moved});
    if (!result.why.empty() && mode != CacheMode::kReadonly) {
      image::NoteNotAdopted(path, order.facts, result.why);
    }
  }
  if (!result.why.empty()) return result;
  if (adoption.lasting && mode != CacheMode::kReadonly) {
    // Nobody waits for the disk: half a key is seen to be one.
    const std::string note = image::AdoptedOf(path, image::HostOf(order.facts));
    (void)cache::ReplaceFile(cache::PosixFileEnv(), note, adoption.key.Serialize());
  }
  result.inodes = adoption.key.inodes;
  result.moved = adoption.key.moved;
  result.fd = opened.Release();
  return result;
}

}  // namespace pylaunch
