#ifndef PYLAUNCH_LAUNCHER_ENGINE_IMAGING_ARCHIVE_PATH_H_
#define PYLAUNCH_LAUNCHER_ENGINE_IMAGING_ARCHIVE_PATH_H_

#include <signal.h>

#include <string>
#include <utility>
#include <vector>

#include "image/format.h"
#include "launcher/contract/handoff.h"
#include "launcher/engine/record/open_files.h"

namespace pylaunch::engine {

// The way back of a restored process that has not run anything of the program yet: the start that
// it would have been without an image, as pylaunch-restore itself begins it where it fails.
class ArchivePath {
 public:
  // Call before anything of the new process's environment is taken away.
  explicit ArchivePath(const image::Restored& restored);

  // What reads the handoff leaves it open.
  std::vector<int>* descriptors() { return &descriptors_; }
  // Frees the numbers of these files, if nobody but what reads the handoff has them. False: another
  // file, of the starter's, is open there.
  bool MakeWayFor(const std::vector<OpenFile>& files);

  // Executes Python as the front end would have. `mask` and `ignored`: the process's signals as its
  // starter left them. Returns only if that fails.
  void Take(const Handoff& handoff, const sigset_t& mask, const sigset_t& ignored);

  // The way back is needed no more.
  void Close();

 private:
  char** argv_;
  std::vector<char*> environment_;
  std::string handoff_;  // The variables that TakeHandoff wipes, as they were.
  std::string preload_;
  std::vector<int> descriptors_;
  std::vector<std::pair<int, int>> moved_;  // From where to where.
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_IMAGING_ARCHIVE_PATH_H_
