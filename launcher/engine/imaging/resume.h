#ifndef PYLAUNCH_LAUNCHER_ENGINE_IMAGING_RESUME_H_
#define PYLAUNCH_LAUNCHER_ENGINE_IMAGING_RESUME_H_

#include <signal.h>
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "image/format.h"
#include "launcher/contract/handoff.h"
#include "launcher/engine/imaging/archive_path.h"
#include "launcher/engine/imaging/image_environment.h"
#include "launcher/engine/imaging/kernel_registrations.h"
#include "launcher/engine/imaging/library_ids.h"
#include "launcher/engine/imaging/save_area.h"
#include "launcher/engine/record/open_files.h"

namespace pylaunch::engine {

// What a process must keep of the kernel's state for those that are restored from its image, and
// what such a process does with it. The same object: it is in the image.
class Resumption {
 public:
  // At the start of the process.
  void Note(int argc, char** argv);

  // In the capturing process; needs the GIL. `folder`: of resume.py. Returns why not, or an empty
  // string.
  std::string Prepare(const std::string& folder);

  // Before Prepare(): what a restored process opens again.
  void KeepOpen(std::vector<OpenFile> files) { files_ = std::move(files); }

  // Then: kernel files that hooks read again, as often as their modules have read them.
  const std::vector<std::string>& renewed_files() const { return renewed_files_; }

  // Once it has returned: whether there is text for standard output that Python has not written
  // out.
  bool has_output() const { return has_output_; }

  // Likewise: whether a processor with more state than this one will do.
  bool knows_save_area() const { return save_area_.known(); }

  // In a restored process, first of all.
  void RenewSaveArea() const { save_area_.Renew(); }

  // In a restored process, whose thread is that which captured: makes it a started interpreter that
  // has not run anything yet, for the command line in `restored`, and puts the new handoff in
  // `handoff`. Where that fails, the process takes the archive path (archive_path.h) and this does
  // not return. False: not even that can be done; an exception is set.
  bool Resume(const image::Restored& restored, Handoff* handoff);

 private:
  // `ignored`: which signals the restored process was started with as ignored.
  bool Renew(const image::Restored& restored, const sigset_t& ignored, Handoff* handoff,
             ArchivePath* back);
  // False: an exception is set.
  bool ReopenFiles(ArchivePath* back) const;
  // What was printed while preloading. False: an exception is set.
  bool RepeatPrinted() const;
  // Calls resume.py's `prepare`. Returns why there can be no image, or an empty string.
  std::string PrepareModules(const std::string& folder);

  ImageEnvironment environment_;
  pid_t process_ = 0;  // That which is being preloaded.
  // At its start: signals that it ignores, and which of the standard streams are terminals.
  sigset_t ignored_ = {};
  bool terminals_[3] = {};
  // At its end.
  uint64_t processor_state_ = 0;
  SaveArea save_area_;
  KernelRegistrations registrations_;
  LibraryIds libraries_;
  std::vector<std::pair<int, struct sigaction>> signals_;
  stack_t signal_stack_ = {};
  std::vector<OpenFile> files_;
  void* resume_ = nullptr;  // resume.py's functions.
  void* refill_ = nullptr;
  bool has_output_ = false;
  std::vector<std::string> renewed_files_;
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_IMAGING_RESUME_H_
