#ifndef PYLAUNCH_LAUNCHER_ENGINE_PURE_LIST_H_
#define PYLAUNCH_LAUNCHER_ENGINE_PURE_LIST_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pylaunch::engine {

// One line of pure_functions.txt, where the fields are explained.
struct PureFunction {
  std::string module;
  std::string name;
  size_t tree = 0;
  std::string skip;
  std::vector<std::string> uses;
  std::vector<uint64_t> sources;
};

// The list that this engine was built with.
std::vector<PureFunction> PureFunctions();

// XXH3-64 of the top-level statements of `source` that bind the function and what it uses; 0: one
// of them is not there.
uint64_t SourceDigest(const PureFunction& function, std::string_view source);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_PURE_LIST_H_
