#include "launcher/engine/record/process_state.h"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <memory_resource>
#include <string_view>

#include "image/own_stack.h"
#include "image/region_map.h"
#include "launcher/engine/record/file_record.h"
#include "launcher/engine/record/kernel_state.h"
#include "launcher/engine/record/open_files.h"
#include "launcher/engine/record/output_record.h"
#include "launcher/engine/record/random_draws.h"

namespace pylaunch::engine {
namespace {

using Part = ProcessState::Part;
using Parts = std::set<Part>;

// The names in a folder of /proc, which are numbers. `own`: the descriptor that it was read by.
std::set<int> Numbers(const char* folder, int* own) {
  std::set<int> found;
  std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(folder), closedir);
  while (const dirent* entry = dir ? readdir(dir.get()) : nullptr) {
    if (entry->d_name[0] != '.') found.insert(std::atoi(entry->d_name));
  }
  *own = dir ? dirfd(dir.get()) : -1;
  return found;
}

std::map<int, std::string> Descriptors() {
  std::map<int, std::string> descriptors;
  int own;
  for (const int fd : Numbers("/proc/self/fd", &own)) {
    if (fd == own) continue;
    descriptors[fd] = LinkAt("/proc/self/fd/" + std::to_string(fd));
  }
  return descriptors;
}

std::string FileAt(const std::map<int, std::string>& descriptors, int fd) {
  const auto at = descriptors.find(fd);
  return at == descriptors.end() ? "" : at->second;
}

// What has become of one since it was `before`; empty: it was not open.
Part DescriptorPart(int fd, const std::string& before, const std::string& now) {
  const char* verb = before.empty() ? "left a descriptor open: "
                     : now.empty()  ? "closed a descriptor: "
                                    : "redirected a descriptor: ";
  return {verb + std::to_string(fd) + " (" + (now.empty() ? before : now) + ")", now, fd};
}

// An archive that was replaced meanwhile is let go of before a capture.
bool IsArchive(std::string_view path) {
  return path.ends_with(".pla (deleted)") || path.ends_with(".pla");
}

void AddOutput(Parts* parts) {
  for (const auto& [words, when] : UnrepeatableOutput()) parts->insert({words, when});
}

constexpr char kReadInput[] = "read standard input";

// Where nobody else reads it meanwhile, and where it can be told.
void AddInput(Parts* parts) {
  parts->insert({kReadInput, std::to_string(lseek(STDIN_FILENO, 0, SEEK_CUR))});
}

void AddDeeds(Parts* parts) {
  for (std::string& words : OwnDeeds()) parts->insert({std::move(words), ""});
}

// One part for each entry that did, so that all of them are found at once.
void AddDraws(Parts* parts) {
  for (const RandomDraw& draw : RandomDraws()) {
    parts->insert({"drew random numbers: " + draw.module, std::to_string(draw.when)});
  }
}

// proc(5), /proc/pid/statm: the first number is the size of everything that is mapped.
uint64_t Pages() {
  std::unique_ptr<FILE, int (*)(FILE*)> sizes(fopen("/proc/self/statm", "re"), fclose);
  unsigned long pages = 0;
  return sizes && std::fscanf(sizes.get(), "%lu", &pages) == 1 ? pages : 0;
}

// What the dump refuses (image/dump.cc).
void AddMemory(bool traits, ProcessState* state) {
  for (const image::Region& region : image::ReadRegions(std::pmr::get_default_resource(), traits)) {
    state->mapped.emplace_back(region.start, region.end);
    const std::string_view why = image::WhyNotAgain(region);
    const bool stack =
        region.kind == image::Region::Kind::kStack || region.end == image::OwnStackEnd();
    if (why.empty() || stack || IsArchive(region.path)) continue;
    state->memory.insert({"left " + std::string(why) + std::string(region.path),
                          std::to_string(region.start), -1, why == region.own ? region.start : 0});
  }
}

}  // namespace

ProcessState ProcessState::Now(const ProcessState* earlier) {
  ProcessState now;
  AddKernelState(&now.parts);
  for (const auto add : {AddOutput, AddInput, AddDeeds, AddDraws}) add(&now.parts);
  now.descriptors = Descriptors();
  now.pages = Pages();
  if (earlier != nullptr && earlier->pages == now.pages) {
    now.memory = earlier->memory;
    now.mapped = earlier->mapped;
  } else {
    AddMemory(/*traits=*/earlier == nullptr, &now);
  }
  return now;
}

bool ProcessState::Has(const Part& part) const {
  if (part.descriptor >= 0) return FileAt(descriptors, part.descriptor) == part.which;
  if (parts.count(part) != 0 || memory.count(part) != 0) return true;
  const auto behind =
      std::upper_bound(mapped.begin(), mapped.end(), part.address,
                       [](uint64_t address, const auto& range) { return address < range.first; });
  return behind != mapped.begin() && part.address < std::prev(behind)->second;
}

std::vector<Part> WhatWasLeft(const ProcessState& before, const ProcessState& now) {
  std::vector<Part> left;
  for (const auto set : {&ProcessState::parts, &ProcessState::memory}) {
    const Parts &old = before.*set, &all = now.*set;
    std::set_difference(all.begin(), all.end(), old.begin(), old.end(), std::back_inserter(left));
  }
  std::map<int, std::string> all = before.descriptors;
  all.insert(now.descriptors.begin(), now.descriptors.end());
  for (const auto& [fd, file] : all) {
    const std::string was = FileAt(before.descriptors, fd), is = FileAt(now.descriptors, fd);
    if (was.empty() && ReopenableFile(fd)) continue;
    if (was != is) left.push_back(DescriptorPart(fd, was, is));
    // How far another file has been read says nothing, nor who has read it.
    if (was != is && fd == STDIN_FILENO)
      std::erase_if(left, [](const Part& part) { return part.words == kReadInput; });
  }
  return left;
}

std::set<pid_t> Threads() {
  int own;
  return Numbers("/proc/self/task", &own);
}

}  // namespace pylaunch::engine
