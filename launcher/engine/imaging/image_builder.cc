#include "launcher/engine/imaging/image_builder.h"

#include <Python.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <string>

#include "cache/descriptor.h"
#include "cache/file_env.h"
#include "image/capture.h"
#include "image/collection.h"
#include "image/digests.h"
#include "image/folder_lock.h"
#include "image/image_files.h"
#include "image/key.h"
#include "image/own_file.h"
#include "image/page_list.h"
#include "image/restraint.h"
#include "image/room.h"
#include "launcher/contract/image_trial.h"
#include "launcher/engine/base/clock.h"
#include "launcher/engine/base/known_list.h"
#include "launcher/engine/base/progress.h"
#include "launcher/engine/base/py_ref.h"
#include "launcher/engine/base/report.h"
#include "launcher/engine/base/tracing_pause.h"
#include "launcher/engine/exit/exit_handlers.h"
#include "launcher/engine/imaging/key_maker.h"
#include "launcher/engine/imaging/memory_policy.h"
#include "launcher/engine/imaging/processor_mask.h"
#include "launcher/engine/imaging/resume.h"
#include "launcher/engine/record/argument_reads.h"
#include "launcher/engine/record/clock_reads.h"
#include "launcher/engine/record/file_record.h"
#include "launcher/engine/record/host_name_reads.h"
#include "launcher/engine/record/open_files.h"
#include "launcher/engine/record/output_record.h"
#include "launcher/engine/record/process_state.h"
#include "launcher/engine/record/random_draws.h"
#include "launcher/engine/record/signal_reads.h"
#include "launcher/engine/record/variable_record.h"

namespace pylaunch::engine {
namespace {

// What the start leaves for the capture. Never freed: a restored process would copy these from the
// image, page by page, to do so.
constinit struct {
  ProcessState* before = nullptr;
  std::string* memory_policy = nullptr;
  Resumption* resumption = nullptr;
  const ReadRecord* read = nullptr;
  const image::VariableReads* variables = nullptr;
  ClockReads clocks;
  const std::string* unmasked = nullptr;  // Why what the processor can was not hidden; or empty.
} g;

// Writes and publishes what the capturing process has made; in that process.
class Publisher {
 public:
  explicit Publisher(const Handoff& handoff)
      : handoff_(handoff),
        note_(image::NoteFor(handoff.image.folder, handoff.image.command, handoff.image.facts)),
        temp_(image::UnfinishedFor(handoff.image.folder, handoff.image.command,
                                   handoff.image.facts)) {}
  const std::string& temp() const { return temp_; }

  // One image at a time is made in a folder, so that workers that start together, before there is
  // one, do not all write it. Ends this process if another is at it (`wait`: waits for that), or
  // has made it since this start. Held until this process ends; where the file system knows no
  // locks, everybody has it.
  void TakeTurn(bool wait) const {
    image::FolderLock lock(handoff_.image.folder);
    // Who only asks whether somebody is at it (IsBeingMade) holds it for a moment.
    bool locked = false;
    for (int tries = 0; !locked && tries < 5; ++tries) {
      if (tries > 0) usleep(2000);
      locked = lock.Take(wait);
    }
    if ((!locked && errno == EWOULDBLOCK) || image::IsMadeMeanwhile(handoff_.image)) _exit(0);
    if (locked) image::RemoveUnfinished(handoff_.image.folder, handoff_.image.facts);
    lock.HoldToTheEnd();
    // Until Publish: who is killed can say nothing any more.
    LeaveNote(std::string(image::kUnfinished));
  }

  // What is said of it from here on is this attempt's.
  void ForgetNote() const { unlink(note_.c_str()); }
  void LeaveNote(const std::string& refusal) const { WriteFile(note_, refusal); }
  // For the start that makes the next image.
  bool LeaveLate(const image::LateEntries& entries) const {
    const image::ImageOrder& order = handoff_.image;
    return WriteFile(image::LateFor(order.folder, order.command, order.facts),
                     image::Serialize(entries));
  }

  // `times`: of a clock that begins with the boot, in the image, which cannot be moved.
  void Publish(std::string refusal, KeyMaker* maker, const std::vector<std::string>& mapped,
               size_t times) {
    image::Key key;
    key.boot = ForThisBoot(times);
    if (refusal.empty()) refusal = maker->Make(mapped, &key);
    if (refusal.empty()) refusal = Write(&key);
    if (!refusal.empty()) {
      unlink(temp_.c_str());
      LeaveNote(refusal);
      return;
    }
    ForgetNote();
    LetOthersStart();
    (void)image::PruneCache(cache::PosixFileEnv(), handoff_.cache_folder, handoff_.cache_size,
                            files_.image, /*thoroughly=*/false);
    LetTravel(key);
  }

 private:
  static std::string ForThisBoot(size_t times) {
    if (!g.clocks.all) return "preloading has asked for the time too often";
    if (times == 0) return "";
    return "it keeps " + std::to_string(times) + (times == 1 ? " time" : " times") +
           " of a clock that begins with the boot";
  }

  // Those who wait for this image rather than import (`--workers`) need nothing of what comes
  // after.
  void LetOthersStart() const {
    if (handoff_.image_turn >= 0) close(handoff_.image_turn);
  }

  // For other hosts and boots; this one can use the image already, so nobody is in a hurry.
  void LetTravel(const image::Key& key) const {
    constexpr int kLeast = 19;  // nice(2)
    setpriority(PRIO_PROCESS, 0, kLeast);
    const auto digests = image::TakeDigests(key.files);
    if (digests) WriteFile(image::DigestsOf(files_.image), digests->Serialize());
  }

  // For everybody to read, as the key and what goes with it.
  void Share() const {
    for (const std::string& path : {handoff_.cache_folder, handoff_.image.folder, temp_}) {
      image::LetOthersRead(path);
    }
  }

  bool WriteFile(const std::string& path, const std::string& bytes) const {
    cache::FileEnv& env = cache::PosixFileEnv();
    auto file = env.CreateTemp(path);
    if (!file) return false;
    const std::string temp = (*file)->path();
    if (handoff_.image.shared) image::LetOthersRead(temp);
    if ((*file)->Append(bytes) && (*file)->Sync() && env.Rename(temp, path)) return true;
    unlink(temp.c_str());
    return false;
  }

  TrialResult Try() const {
    const cache::Descriptor image(open(temp_.c_str(), O_RDONLY | O_CLOEXEC));
    const bool late = !handoff_.image.late.empty();
    return TryImage(handoff_, {.fd = image.get()}, temp_,
                    late ? TrialPages::kOfStart : TrialPages::kOfWhole);
  }

  std::string Write(image::Key* key) {
    const TrialResult tried = Try();
    if (!tried.why_not.empty()) return tried.why_not;
    if (!tried.pages.empty() && !image::AppendPageList(temp_, tried.pages)) {
      return "cannot be written";
    }
    auto mapped = cache::PosixFileEnv().Map(temp_);
    if (!mapped) return mapped.error().message;
    image::Header header;
    if (mapped->size() < sizeof header ||
        !mapped->Read(0, sizeof header, reinterpret_cast<char*>(&header))) {
      return "truncated";
    }
    key->table_size = header.data_offset;
    key->table = image::TableHash(mapped->view().substr(0, header.data_offset));
    const std::optional<uint64_t> content = image::ContentHash(temp_);
    if (!content) return "it cannot be read back";
    key->content = *content;
    for (const image::LateEntry& entry : handoff_.image.late) {
      key->late.push_back(InWords(handoff_.plan, entry));
    }
    files_ = image::FilesFor(handoff_.image.folder, handoff_.image.command, key->facts);
    return Replace(key);
  }

  // Of starts at once the first one's image stays: it is as good, and somebody may have been told
  // of it. Without the lock (TakeTurn), one's key could come to lie beside the other's image.
  std::string Replace(image::Key* key) const {
    const bool published = access(files_.key.c_str(), F_OK) == 0 &&
                           image::StateOf(files_.image).ctime_ns > handoff_.image.started_ns;
    if (published) return unlink(temp_.c_str()) == 0 ? "" : "its temporary file is gone";
    if (handoff_.image.shared) Share();
    // The old key is for the old image; in between there is none.
    unlink(files_.key.c_str());
    unlink(image::DigestsOf(files_.image).c_str());
    if (rename(temp_.c_str(), files_.image.c_str()) != 0) return "rename failed";
    key->image = image::StateOf(files_.image);
    if (!WriteFile(files_.key, key->Serialize())) return files_.key + " cannot be written";
    image::NoteUnused(files_.key);
    return "";
  }

  const Handoff& handoff_;
  std::string note_;
  std::string temp_;
  image::ImageFiles files_;  // Known with the key.
};

std::string WhyNot(const Handoff& handoff, const ReadRecord& read) {
  if (!g.unmasked->empty()) return "it would be for this processor alone: " + *g.unmasked;
  if (!read.unknown.empty()) return "what preloading read is not known: " + read.unknown;
  if (std::string why = ShortSecretRead(handoff.image.allowed); !why.empty()) return why;
  auto made = cache::PosixFileEnv().MakeFolders(handoff.image.folder);
  return made ? "" : made.error().message;
}

// The next image is made without the entries that left something, if that is all that speaks
// against one. Returns in words why there is none now.
std::string SeparateLate(const Handoff& handoff, const EntryWatch::Blame& blame,
                         const Publisher& publisher, bool* separated) {
  if (!blame.nobody.empty()) return blame.nobody;
  *separated = publisher.LeaveLate(image::Merge(handoff.image.late, blame.entries));
  std::string words;
  for (const image::LateEntry& entry : blame.entries) {
    if (!words.empty()) words += ", ";
    words += InWords(handoff.plan, entry);
  }
  return words + (*separated ? "; from the next start on imported late" : "");
}

// How much of the image at `temp` is written.
void ShowWriting(const std::string& temp, Progress* progress) {
  struct stat st;
  if (stat(temp.c_str(), &st) != 0 || st.st_size == 0) return;
  constexpr uint64_t kBlock = 512, kMiB = 1 << 20;
  const auto size = static_cast<uint64_t>(st.st_size);
  const uint64_t written = std::min(static_cast<uint64_t>(st.st_blocks) * kBlock, size);
  progress->Show(written, size,
                 std::to_string(written / kMiB) + "/" + std::to_string(size / kMiB) + " MiB");
}

// Which lists vouch for other versions of what is loaded.
void ExplainListsToReadAgain(const std::string& folder) {
  for (const char* name : {"quiet_libraries.txt", "separate_libraries.txt", "quiet_types.txt",
                           "environ_libraries.txt"}) {
    KnownList list = KnownList::Read(folder + "/" + name);
    list.ProveLoaded();
    for (const std::string& line : list.ToReadAgain()) Explain("image: " + line);
  }
  for (const std::string& line : DrawListsToReadAgain()) Explain("image: " + line);
  for (const std::string& line : HostNameListToReadAgain()) Explain("image: " + line);
}

}  // namespace

void PrepareForImage(const image::ImageOrder& order, int argc, char** argv) {
  StartOutputRecord();
  StartClockReads();
  image::WatchForks();
  RecordExitHandlers();
  rlimit limit;
  getrlimit(RLIMIT_STACK, &limit);
  limit.rlim_cur = order.stack_limit;
  setrlimit(RLIMIT_STACK, &limit);
  // What glibc would have taken from the limit for threads (nptl/nptl-stack.c); without one, it
  // did.
  if (order.stack_limit != RLIM_INFINITY) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, order.stack_limit);
    pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
  }
  g.resumption = new Resumption;
  g.resumption->Note(argc, argv);
  g.before = new ProcessState(ProcessState::Now());
  g.memory_policy = new std::string(MemoryPolicy());
}

void EndOfPreload() {
  g.unmasked = new std::string(UnmaskProcessor());
  StopOutputRecord();
  g.clocks = StopClockReads();
  StopRandomDraws();
  StopSignalReads();
  StopHostNameReads();
  g.variables = new image::VariableReads(StopImageReads());
  g.read = new ReadRecord(StopReadRecord());
}

std::string InWords(const PreloadPlan& plan, const image::LateEntry& late) {
  const PreloadEntry& entry = plan.entries[late.index];
  return "'" + entry.text + "' " + late.left;
}

const image::Restored* CaptureImage(Handoff* handoff, ArchiveSession* session,
                                    const EntryWatch& watch) {
  TracingPause pause;
  const ReadRecord& read = *g.read;
  // Never freed, here and below, like g.read: each block that a restored process frees is a page
  // that it has to copy, and then the place of an object of its own.
  auto& publisher = *new Publisher(*handoff);
  // It is what this attempt is judged by; another's under way says nothing yet.
  if (handoff->image_only && !image::IsBeingMade(handoff->image.folder)) publisher.ForgetNote();
  image::Room room;
  std::string refusal = WhyNot(*handoff, read);
  if (refusal.empty()) {
    room = image::RoomFor(handoff->image.folder);
    refusal = room.why_not;
    if (!refusal.empty()) publisher.LeaveNote(refusal);
  }
  bool separated = false;
  if (refusal.empty()) {
    const auto& now = *new ProcessState(ProcessState::Now());
    const auto& left = *new auto(WhatWasLeft(*g.before, now));
    const auto& open_files = *new auto(FilesLeftOpen(g.before->descriptors, now.descriptors));
    g.resumption->KeepOpen(open_files);
    const auto& modules = *new std::set<std::string>(ModuleFiles());
    const std::string young = TooYoung(*handoff, read, modules);
    KeyMaker* maker = nullptr;
    Progress progress(handoff->image_only);
    auto& request = *new image::CaptureRequest;
    request.path = publisher.temp();
    request.allowed_secrets = handoff->image.allowed;
    request.threads_only = !left.empty() || !young.empty();
    request.kept = handoff->image_turn;
    request.tight = room.tight;
    request.wait = handoff->wait_for_seal || handoff->image_only;
    if (progress.on()) request.waiting = [&] { ShowWriting(publisher.temp(), &progress); };
    request.begin = [&] { publisher.TakeTurn(request.wait); };
    request.prepare = [&] {
      maker = new KeyMaker(*handoff, session, read, *g.variables, modules);
      session->Detach();
      ForgetClockReads();
      if (HasOtherMemoryPolicy(*g.memory_policy)) {
        return std::string("preloading chose the nodes that memory is on");
      }
      std::string why = g.resumption->Prepare(handoff->image.hooks);
      maker->Renewed(g.resumption->renewed_files());
      if (!g.resumption->knows_save_area()) maker->Ask(image::kExtendedState);
      for (const OpenFile& file : open_files) maker->Add(file.path);
      // What Python has written out by now, and what not, depends on that.
      if (HasPrinted(STDOUT_FILENO) || g.resumption->has_output()) {
        maker->Ask(TerminalFact(STDOUT_FILENO));
      }
      return why;
    };
    request.restored = [] { g.resumption->RenewSaveArea(); };
    request.times_ns = g.clocks.values;
    request.finish = [&](const std::string& why, const std::vector<std::string>& mapped,
                         size_t times) { publisher.Publish(why, maker, mapped, times); };
    PyOS_BeforeFork();
    const image::CaptureResult result = image::Capture(request);
    if (result.restored != nullptr) return result.restored;
    PyOS_AfterFork_Parent();
    refusal = result.refusal;
    if (refusal.empty() && (!left.empty() || !result.threads.empty())) {
      refusal = SeparateLate(*handoff, watch.Judge(left, result.threads), publisher, &separated);
    } else if (refusal.empty() && !young.empty()) {
      refusal = young;
      publisher.LeaveNote(refusal);
    }
  }
  ForgetListsOfThisStart();
  ForgetClockReads();
  if (handoff->image_only && !refusal.empty() && !separated) publisher.LeaveNote(refusal);
  if (handoff->explain) {
    Explain(refusal.empty()
                ? "image: being made in " + handoff->image.folder
                : "image: not made: " + refusal +
                      (refusal.ends_with(image::kTooYoung) ? "; try again in 2 s" : ""));
    if (refusal.empty() && !g.variables->all.empty()) {
      Explain("image: only for an environment that is wholly the same: " + g.variables->all);
    }
    ExplainListsToReadAgain(handoff->image.hooks);
  }
  return nullptr;
}

bool ResumeImage(const image::Restored& restored, Handoff* handoff) {
  return g.resumption->Resume(restored, handoff);
}

}  // namespace pylaunch::engine
