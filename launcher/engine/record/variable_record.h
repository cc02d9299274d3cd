#ifndef PYLAUNCH_LAUNCHER_ENGINE_RECORD_VARIABLE_RECORD_H_
#define PYLAUNCH_LAUNCHER_ENGINE_RECORD_VARIABLE_RECORD_H_

#include <cstddef>
#include <string>
#include <vector>

#include "image/key.h"

namespace pylaunch::engine {

// While one of these lives, what is read of the environment is added to PreloadReads() as reads of
// `entry`: by C through getenv(), by Python through os.environ, os.environb, os.getenv() and
// os.getenvb(). One at a time. REQUIRES: the GIL.
class ReadsRecording {
 public:
  explicit ReadsRecording(size_t entry);
  ~ReadsRecording();
  ReadsRecording(const ReadsRecording&) = delete;
  ReadsRecording& operator=(const ReadsRecording&) = delete;
};

// For an image, all that this process reads from its start on: by C from the first of these calls
// on, before Python starts; by Python from the moment that `os` is imported, which the second sees
// to, once importlib is there.
void StartImageReads();
void FollowImportOfOs();
// What was read, or changed: a variable that is set or removed is not as it was, whether it was set
// or not. `all` also if child processes may have read. Before StopReadRecord. REQUIRES: the GIL.
image::VariableReads StopImageReads();

// Why no image may be made of what was read: a secret that it may hold without anybody being able
// to tell (image/secrets.h, IsShortSecret), other than those `allowed`; or an empty string.
std::string ShortSecretRead(const std::vector<std::string>& allowed);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_RECORD_VARIABLE_RECORD_H_
