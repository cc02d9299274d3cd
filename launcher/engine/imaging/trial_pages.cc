#include "launcher/engine/imaging/trial_pages.h"

#include <unistd.h>

#include <string>

#include "image/page_list.h"
#include "launcher/contract/image_trial.h"
#include "launcher/engine/exit/exit_handlers.h"
#include "launcher/engine/imaging/confinement.h"

namespace pylaunch::engine {
namespace {

// What is called at the end is given nothing. Never freed.
constinit struct {
  const Handoff* handoff = nullptr;
  image::PageList* needed = nullptr;
} g;

void AddPages() { (void)g.needed->AddThisProcess(g.handoff->trial_image); }

// An empty list tells at least that the process has come so far.
void TellPages(off_t at) {
  AddPages();
  const bool any = !g.needed->files.empty() && g.needed->bytes() <= image::kMostListedBytes;
  const std::string bytes = any ? g.needed->Serialize() : "";
  const auto size = static_cast<uint32_t>(bytes.size());
  const int fd = g.handoff->trial_pages;
  (void)!pwrite(fd, bytes.data(), size, at + static_cast<off_t>(sizeof size));
  (void)!pwrite(fd, &size, sizeof size, at);
}

}  // namespace

void PassTrial(const Handoff& handoff) {
  if (handoff.trial_pages < 0) _exit(kTrialPassed);
  g = {new Handoff(handoff), new image::PageList};
  TellPages(kFirstList);
  if (!handoff.trial_ends || !ConfineToMemory(handoff.trial_pages)) _exit(kTrialPassed);
  CallAtTheEnd([] { TellPages(kSecondList); });
}

void GoOnWithTrial() {
  if (g.handoff != nullptr) AddPages();
}

}  // namespace pylaunch::engine
