#include "launcher/engine/start/takeover.h"

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

extern char** environ;

namespace pylaunch::engine {
namespace {

constexpr std::string_view kPreloadVariable = "LD_PRELOAD";
constexpr std::string_view kTunablesVariable = image::kTunablesVariable;

// The whole "NAME=value" string of a variable in `environ`; null: not there.
char** FindVariable(std::string_view name) {
  for (char** e = environ; e != nullptr && *e != nullptr; ++e) {
    std::string_view entry = *e;
    if (entry.size() > name.size() && entry[name.size()] == '=' && entry.starts_with(name))
      return e;
  }
  return nullptr;
}

bool IsSet(std::string_view name) {
  char** variable = FindVariable(name);
  return variable != nullptr && (*variable)[name.size() + 1] != '\0';
}

void Wipe(char* text, size_t from) { std::memset(text + from, 0, std::strlen(text + from)); }

void Remove(char** variable) {
  Wipe(*variable, 0);
  do {
    variable[0] = variable[1];
  } while (*variable++ != nullptr);
}

// "LD_PRELOAD=<engine>:<the user's>" becomes "LD_PRELOAD=<the user's>" where it stands; without a
// user's part it goes. Returns the descriptor that the engine came by (launcher/main.cc,
// EngineDescriptor), or -1.
int RestorePreload() {
  char** variable = FindVariable(kPreloadVariable);
  if (variable == nullptr) return -1;
  char* value = *variable + kPreloadVariable.size() + 1;
  constexpr std::string_view kDescriptors = "/proc/self/fd/";
  const bool by_descriptor = std::string_view(value).starts_with(kDescriptors);
  const int fd = by_descriptor ? std::atoi(value + kDescriptors.size()) : -1;
  char* users = std::strchr(value, ':');
  if (users == nullptr) {
    Remove(variable);
    return fd;
  }
  ++users;
  size_t size = std::strlen(users);
  std::memmove(value, users, size);
  Wipe(*variable, static_cast<size_t>(value - *variable) + size);
  return fd;
}

// Of "GLIBC_TUNABLES=<the user's>:<ours>", which has had its effect, what was the user's.
void RestoreTunables(const std::string& ours) {
  char** variable = FindVariable(kTunablesVariable);
  if (variable == nullptr || !std::string_view(*variable).ends_with(ours)) return;
  const size_t users = std::strlen(*variable) - ours.size();
  if (users == kTunablesVariable.size() + 1) return Remove(variable);
  Wipe(*variable, users - 1);  // With the colon.
}

std::string ReadAll(int fd) {
  std::string bytes;
  lseek(fd, 0, SEEK_SET);
  char buffer[16384];
  ssize_t n;
  while ((n = read(fd, buffer, sizeof buffer)) > 0) bytes.append(buffer, static_cast<size_t>(n));
  return bytes;
}

}  // namespace

std::optional<Handoff> TakeHandoff(std::vector<int>* open) {
  char** variable = FindVariable(kHandoffVariable);
  if (variable == nullptr) return std::nullopt;
  HandoffVariable told;
  const bool ours = ParseHandoffVariable(HandoffValue(*variable), &told) && told.pid == getpid();
  if (!ours) return std::nullopt;
  std::optional<Handoff> usual;
  if (told.usual != nullptr) usual = Handoff::ParseUsual(told.usual);
  if (usual) {
    usual->wait_for_seal = told.waits;
    usual->cache_named = IsSet("PYLAUNCH_CACHE");
  }
  Remove(variable);  // And wipes it.
  const int engine_fd = RestorePreload();
  if (told.usual != nullptr) return usual;
  std::string bytes = ReadAll(told.handoff);
  // An image's, which the restorer has closed if it came to use it.
  if (told.second >= 0 && told.second != engine_fd) close(told.second);
  for (const int taken : {told.handoff, engine_fd}) {
    if (taken < 0) continue;
    open == nullptr ? static_cast<void>(close(taken)) : open->push_back(taken);
  }
  std::optional<Handoff> handoff = Handoff::Parse(bytes);
  if (handoff && handoff->image.cpu != image::CpuLevel::kOwn) {
    RestoreTunables(image::TunablesFor(handoff->image.cpu));
  }
  return handoff;
}

}  // namespace pylaunch::engine
