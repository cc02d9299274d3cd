#ifndef PYLAUNCH_LAUNCHER_ENGINE_IMAGING_IMAGE_ENVIRONMENT_H_
#define PYLAUNCH_LAUNCHER_ENGINE_IMAGING_IMAGE_ENVIRONMENT_H_

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace pylaunch::engine {

// The environment of a process that becomes an image: it goes before the image is written, and a
// restored process has its starter's, with what preloading changed in it.
class ImageEnvironment {
 public:
  // Notes where the kernel put the arguments and the variables. Call before anything changes
  // `environ`.
  void Note(int argc, char** argv);

  // In the capturing process: keeps what preloading changed and overwrites all values, the kernel's
  // block and os.environ's, and the program's arguments. Needs the GIL.
  void Scrub();

  // In a restored process: `envp` becomes the environment, with the changes made to it, for C and
  // for os.environ, in place. Code may have kept pointers into the builder's block: there the same
  // variables' values stand again, as far as they fit. Needs the GIL.
  void Resume(char** envp);

 private:
  struct Variable {
    char* at;  // "NAME=value"
    std::string name;
    size_t size = 0;  // Of the value.
  };
  std::vector<char*> arguments_;
  std::vector<char*> block_;
  std::vector<Variable> variables_;
  // What preloading did to the variables: in C's environment and in os.environ, which is a copy of
  // it that does not know what C code does.
  struct Changes {
    std::vector<std::pair<std::string, std::string>> set;
    std::vector<std::string> unset;
  };
  using Variables = std::map<std::string, std::string, std::less<>>;
  static Changes ChangesSince(const Variables& start, const Variables& now);

  Changes in_c_;
  Changes in_python_;
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_IMAGING_IMAGE_ENVIRONMENT_H_
