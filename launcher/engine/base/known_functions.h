#ifndef PYLAUNCH_LAUNCHER_ENGINE_BASE_KNOWN_FUNCTIONS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_BASE_KNOWN_FUNCTIONS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pylaunch::engine {

// One line of pure_functions.txt or environ_prefixes.txt, where the fields are explained.
struct KnownFunction {
  std::string module;
  std::string name;
  size_t tree = 0;
  std::string skip;
  std::string prefix;
  std::vector<std::string> uses;
  std::vector<uint64_t> sources;
};

// `list`: the lines of such a file without comments.
std::vector<KnownFunction> ParseKnownFunctions(const char* list);

// XXH3-64 of the top-level statements of `source` that bind the function and what it uses; 0: one
// of them is not there.
uint64_t SourceDigest(const KnownFunction& function, std::string_view source);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_BASE_KNOWN_FUNCTIONS_H_
