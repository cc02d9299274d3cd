#ifndef PYLAUNCH_LAUNCHER_TOOLS_IMAGE_TOOLS_H_
#define PYLAUNCH_LAUNCHER_TOOLS_IMAGE_TOOLS_H_

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "image/collection.h"

// What --stats and --verify say of images.

namespace pylaunch {

// `cache_folder` may be "". False, with a word on stderr: the folder cannot be listed.
bool ReadImages(const std::string& cache_folder, char** environment, bool check,
                image::Collection* collection);

bool IsRight(const image::ImageSummary& image);

// Takes out the notes that those have left in advance who are making an image now
// (image/image_files.h, kUnfinished).
void DropNotesInAdvance(image::Collection* collection);
void PrintStats(const image::Collection& collection);
void PrintVerdict(const image::ImageSummary& image);

nlohmann::ordered_json ToJson(const image::ImageSummary& image);
nlohmann::ordered_json ToJson(const std::vector<image::Divergence>& divergences);
nlohmann::ordered_json ToJson(const std::vector<image::Leftover>& leftovers);

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_TOOLS_IMAGE_TOOLS_H_
