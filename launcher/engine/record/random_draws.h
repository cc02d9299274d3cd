#ifndef PYLAUNCH_LAUNCHER_ENGINE_RECORD_RANDOM_DRAWS_H_
#define PYLAUNCH_LAUNCHER_ENGINE_RECORD_RANDOM_DRAWS_H_

#include <compare>
#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace pylaunch::engine {

// What Python code drew from the system's randomness, by CPython (os.urandom, random.seed and all
// that is made of them), while it was recorded. All processes of an image would have the same. Not
// seen: what C and Rust code draws by itself (OpenSSL), and what random's or numpy's global
// generator gives, which were seeded before.
struct RandomDraw {
  // Whose code it is that keeps the number, as far as frames tell.
  std::string module;
  // How often RandomDraws() had been called before.
  size_t when;
  auto operator<=>(const RandomDraw&) const = default;
};

// `folder`: of resume.py. Not recorded is what modules draw for which there is a hook or a line in
// known_draws.txt, in a version for which that vouches (known_list.h). Who has a hook for other
// versions counts as having drawn: nobody else renews what C code has. All these need the GIL.
void StartRandomDraws(const std::string& folder);
void StopRandomDraws();
// What those lists know in other versions than were loaded, in sentences; once it has stopped.
std::vector<std::string> DrawListsToReadAgain();

// True if the hook of that name that begins with that line was written for the version that
// `module` is: "# Versions: ", and what proves one.
bool IsHookFor(const std::string& name, std::string_view first_line, PyObject* module);

// What was recorded until now.
std::set<RandomDraw> RandomDraws();

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_RECORD_RANDOM_DRAWS_H_
