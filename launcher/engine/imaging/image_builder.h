#ifndef PYLAUNCH_LAUNCHER_ENGINE_IMAGING_IMAGE_BUILDER_H_
#define PYLAUNCH_LAUNCHER_ENGINE_IMAGING_IMAGE_BUILDER_H_

#include <functional>
#include <string>

#include "image/format.h"
#include "launcher/contract/handoff.h"
#include "launcher/engine/archive/archive_session.h"
#include "launcher/engine/record/entry_watch.h"

namespace pylaunch::engine {

// Before main(), when an image is wanted: takes back what the front end did to the stack's limit
// and notes the state that preloading must not change.
void PrepareForImage(const image::ImageOrder& order, int argc, char** argv);

// Right after preloading, before anything of ours runs: what was read until now counts.
void EndOfPreload();

// After that. Has an image made by a process of its own, unless something speaks against it,
// which --explain tells. Returns null in this process, and in each process that is restored from
// the image later its arguments; there, Resume is next. With handoff->image_only it waits until the
// image is published, or a note says why not, and shows how far that is. If entries have left
// something, as `watch` tells, there is no image now, and the next start gets them as late ones.
const image::Restored* CaptureImage(Handoff* handoff, ArchiveSession* session,
                                    const EntryWatch& watch);

// "'import polars' left a thread: polars-ooc-clea". Kept with an image, for starts that may have
// the entry on another line.
std::string InWords(const PreloadPlan& plan, const image::LateEntry& late);

// In a restored process, first thing: makes it what a started interpreter would be for the command
// line in `restored` (resume.h). False: an exception is set.
bool ResumeImage(const image::Restored& restored, Handoff* handoff);

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_IMAGING_IMAGE_BUILDER_H_
