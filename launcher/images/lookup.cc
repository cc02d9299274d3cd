#include "launcher/images/lookup.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <set>
#include <string_view>

#include "absl/strings/str_join.h"
#include "cache/descriptor.h"
#include "cache/file_env.h"
#include "cache/stat_proof.h"
#include "image/collection.h"
#include "image/image_files.h"
#include "image/key_file.h"
#include "image/own_file.h"
#include "image/read_ahead.h"
#include "image/restraint.h"
#include "image/travel.h"
#include "launcher/images/adopt.h"

namespace pylaunch {
namespace {

using image::Fact;
using image::Facts;

std::string Folder() {
  char buffer[PATH_MAX];
  return getcwd(buffer, sizeof buffer) != nullptr ? buffer : "";
}

// The word of python_argv that ends Python's options, less what belongs to the program: "-Bc" of
// "-Bcpass".
std::string LastOptions(std::string_view word) {
  if (word.size() < 2 || word[0] != '-' || word == "--") return "";
  return std::string(word.substr(0, word.find_first_of("cm") + 1));
}

struct Program {
  std::string options;  // Python's, one a line.
  std::string kind;     // image/facts.h, kProgramKind
  std::string folder;   // What sys.path[0] will mean.
};

Program Describe(const Options& options) {
  Program program;
  const std::vector<std::string>& argv = options.python_argv;
  for (size_t i = 1; i < options.program; ++i) program.options += argv[i] + "\n";
  size_t at = options.program;
  if (at < argv.size()) program.options += LastOptions(argv[at]);
  if (at < argv.size() && argv[at] == "--") ++at;
  program.folder = Folder();
  if (at >= argv.size() || argv[at] == "-") {
    program.kind = image::kInputKind;
  } else if (argv[at][0] == '-') {
    program.kind = program.options.ends_with('m') ? "-m" : "-c";
  } else {
    program.kind = image::kFileKind;
    char buffer[PATH_MAX];
    struct stat st;
    if (realpath(argv[at].c_str(), buffer) != nullptr && stat(buffer, &st) == 0) {
      const std::string path = buffer;
      program.folder = S_ISDIR(st.st_mode) || !path.ends_with(".py") ? path : cache::FolderOf(path);
    }
  }
  return program;
}

// PYTHONPATH may name folders relative to the working directory.
bool DependsOnFolder(const char* pythonpath) {
  for (std::string_view rest = pythonpath == nullptr ? "" : pythonpath; !rest.empty();) {
    const std::string_view entry = rest.substr(0, rest.find(':'));
    rest.remove_prefix(std::min(rest.size(), entry.size() + 1));
    if (!entry.starts_with('/')) return true;
  }
  return false;
}

// What a plan does. Where its entries stand and how they are spelled is for messages, which a
// restored process makes of its own plan.
std::string PlanHash(const PreloadPlan& plan) {
  Handoff meaning;
  meaning.plan = plan;
  for (PreloadEntry& entry : meaning.plan.entries) {
    entry.location = Location();
    entry.text.clear();
  }
  return image::Hashed(meaning.Serialize());
}

Facts CommandFacts(const ImageQuery& query, const Program& program) {
  Facts facts = {{image::kPython, query.python},
                 {image::kPythonOptions, program.options},
                 {image::kProgramKind, program.kind},
                 {image::kProgramFolder, program.folder},
                 {image::kPreloadPlan, PlanHash(query.plan)}};
  return facts;
}

Facts AllFacts(const ImageQuery& query, const Facts& command) {
  Facts facts = command;
  facts.push_back({image::kEngine, query.engine});
  facts.push_back({image::kEngineFile, image::Text(image::StateOf(query.engine))});
  facts.push_back({image::kRestorerFile, image::Text(image::StateOf(query.restorer))});
  if (DependsOnFolder(getenv("PYTHONPATH"))) facts.push_back({kWorkingDirectory, Folder()});
  // Who allows nothing gets no image with a secret in it.
  if (const auto& names = query.options.image_allow; !names.empty()) {
    const std::set<std::string> allowed(names.begin(), names.end());
    facts.push_back({image::kAllowedSecrets, absl::StrJoin(allowed, ",")});
  }
  for (Fact& fact : image::MachineFacts()) {
    if (const image::CpuLevel cpu = query.options.cpu;
        cpu != image::CpuLevel::kOwn && fact.name == image::kProcessor) {
      fact.value = image::Baseline(fact.value, cpu);
    }
    facts.push_back(std::move(fact));
  }
  return facts;
}

// Both that uname(2) tells.
std::string HostName() {
  utsname names = {};
  uname(&names);
  return std::string(names.nodename) + " " + names.domainname;
}

// What sys.argv is while preloading: "-c" stands there for a program, whichever it is, and of a
// module there is the path, which its name decides in one folder.
Facts AskableFacts(const Options& options) {
  const std::vector<std::string>& argv = options.python_argv;
  size_t at = options.program;
  if (at < argv.size() && argv[at] == "--") ++at;
  std::string name, arguments;
  if (at < argv.size()) {
    const std::string_view word = argv[at++];
    const std::string option = LastOptions(word);
    std::string_view program = word.substr(option.size());
    if (program.empty() && at < argv.size()) program = argv[at++];
    if (option.empty() || option.ends_with('m')) name = program;
  }
  for (; at < argv.size(); ++at) arguments += argv[at] + '\0';
  std::string line;
  for (size_t i = 1; i < argv.size(); ++i) line += argv[i] + '\0';
  Facts facts = {{kWorkingDirectory, Folder()},
                 {kProgramName, image::Hashed(name)},
                 {kArguments, image::Hashed(arguments)},
                 {kCommandLine, image::Hashed(line)},
                 {kHostName, HostName()}};
  for (int stream = 0; stream < 3; ++stream) {
    facts.push_back({TerminalFact(stream), isatty(stream) != 0 ? "yes" : "no"});
  }
  for (int number = 1; number < NSIG; ++number) {
    struct sigaction action;
    if (sigaction(number, nullptr, &action) != 0) continue;
    facts.push_back({IgnoredFact(number), action.sa_handler == SIG_IGN ? "yes" : "no"});
  }
  return facts;
}

bool HasSwitch(const std::string& options, char letter) {
  for (std::string_view rest = options; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (line.size() < 2 || line[0] != '-' || line[1] == '-') continue;
    if (line.substr(1, line.find_first_of("WX") - 1).find(letter) != line.npos) return true;
  }
  return false;
}

// Why no image is wanted for this start; empty if one is.
std::string WhyNone(const ImageQuery& query, const Program& program) {
  const std::string& options = program.options;
  if (query.folder.empty() && query.options.cache_mode == CacheMode::kOff)
    return "the cache is off";
  if (query.folder.empty()) return "there is no cache folder";
  if (HasSwitch(options, 'v') || getenv("PYTHONVERBOSE") != nullptr ||
      options.find("importtime") != options.npos || getenv("PYTHONPROFILEIMPORTTIME") != nullptr) {
    return "imports are to be reported";
  }
  if (!query.options.record.empty() || !query.options.report.empty()) {
    return "imports are to be recorded";
  }
  if ((personality(0xffffffff) & ADDR_NO_RANDOMIZE) != 0) return "addresses are not randomised";
  if (geteuid() != getuid() || getegid() != getgid()) return "another user's rights";
  return "";
}

bool KnowsBoot(const Facts& facts) { return !image::ValueOf(facts, image::kBoot).empty(); }

// What the image was made of and is no more as it was, in words; or an empty string.
std::string WhatChanged(const image::KeyFile& file) {
  const std::optional<image::Key> key = file.Whole();
  return key ? image::FirstChange(*key) : file.Fault();
}

// The key's image if all that is left to check allows it, else why not. Where
// the image's content had to be looked at, the key is renewed, if the mode allows it, so that this
// start is the last one.
OpenImage Open(const image::KeyFile& file, const image::KeyHead& head, CacheMode mode) {
  const bool renew = mode != CacheMode::kSealed && mode != CacheMode::kReadonly;
  OpenImage result;
  const std::string path = image::ImageOf(file.path());
  struct stat st;
  cache::Descriptor opened = image::OpenOwn(path, &st);
  const int error = errno;
  const image::ReadingAhead ahead(opened.get(), /*always=*/false);
  result.inodes = head.inodes;
  result.moved = head.moved;
  result.why = mode == CacheMode::kSealed ? "" : WhatChanged(file);
  if (!result.why.empty()) return result;
  if (!opened.ok()) {
    result.why = path + ": " + std::strerror(error);
    return result;
  }
  const image::FileState now = image::StateOf(st);
  if (now == head.image && image::TableIsWhole(opened.get(), head)) {
    result.fd = opened.Release();
    return result;
  }
  // Its mode was changed (a layer's `chmod -R a+rX`), or it was written and its times set back.
  if (image::DifferInCtimeAlone(now, head.image) &&
      image::ContentHash(opened.get()) == head.content) {
    if (renew) file.Renew(now);
    result.fd = opened.Release();
    return result;
  }
  result.why = path + " is damaged: it is not what was written";
  return result;
}

// Goes through the images of one command for one that this start may use.
class Search {
 public:
  Search(const image::ImageOrder& order, CacheMode mode, bool explain)
      : order_(order), mode_(mode), explain_(explain) {}

  // The image at path(), if this start may use it as it is.
  OpenImage Try(const std::string& key_path) {
    const image::KeyFile file(key_path);
    const std::optional<image::KeyHead> head = file.Head();
    if (!head) {
      fault_ = file.Fault();
      fault_used_ns_ = INT64_MAX;
      return {};
    }
    const Facts now = image::FactsNow(order_, *head);
    std::string difference = image::Difference(head->facts, now);
    const bool made = !image::IsAdopted(key_path);
    if (order_.shared && !head->shared) return {};
    // One for another level is not what --cpu asks for.
    if (order_.cpu != image::CpuLevel::kOwn && !difference.empty() &&
        image::ValueOf(head->facts, image::kProcessor) !=
            image::ValueOf(order_.facts, image::kProcessor)) {
      return {};
    }
    if (difference.empty()) {
      path_ = key_path;
      OpenImage image = Open(file, *head, mode_);
      if (image.fd >= 0) return image;
      fault_ = image.why;
      fault_used_ns_ = file.used_ns();
      // What is known not to be as it was, nobody trusts without a look.
      if (made && mode_ != CacheMode::kSealed) elsewhere_.push_back(key_path);
      return {};
    }
    std::string lasting = image::Difference(image::WithoutTravelling(head->facts, *head),
                                            image::WithoutTravelling(now, *head));
    if (made && lasting.empty()) elsewhere_.push_back(key_path);
    if (!lasting.empty()) difference = std::move(lasting);  // The others forbid nothing.
    if (!explain_) return {};
    const size_t count =
        image::CountMissing(now, head->facts) + image::CountMissing(head->facts, now);
    if (nearest_.empty() || count < fewest_) {
      nearest_ = std::move(difference), nearest_path_ = key_path, fewest_ = count;
    }
    return {};
  }

  // When none may be used as it is: one that was made on another host, or of other copies.
  OpenImage TryElsewhere() {
    for (const std::string& key_path : elsewhere_) {
      const image::KeyFile file(key_path);
      const std::optional<image::KeyHead> head = file.Head();
      if (!head) continue;
      OpenImage image = AdoptImage(file, *head, order_, mode_);
      path_ = key_path;
      if (image.fd >= 0) return image;
      fault_ = image.why;
      fault_used_ns_ = file.used_ns();
    }
    return {};
  }

  const std::string& path() const { return path_; }
  // After no success.
  std::string Why() const {
    if (!fault_.empty() && !IsNearestNewer()) return fault_;
    return nearest_.empty() ? "" : "none for this state: " + nearest_;
  }

 private:
  // What this state's image was made of may have changed long ago. Who has used another one since
  // asks why not that one, if all but the state is as it was.
  bool IsNearestNewer() const {
    if (nearest_.empty()) return false;
    const image::KeyFile file(nearest_path_);
    return file.used_ns() > fault_used_ns_ && WhatChanged(file).empty();
  }

  const image::ImageOrder& order_;
  const CacheMode mode_;  // If sealed, what an image was made of is not asked for.
  const bool explain_;    // Else nobody asks which is nearest, which takes long to tell.
  std::string path_;      // Of the last key whose facts are this start's.
  std::vector<std::string> elsewhere_;  // Keys whose image might hold here all the same.
  std::string fault_;          // What was wrong with that one, or with a file that is no key.
  int64_t fault_used_ns_ = 0;  // When that was used last.
  std::string nearest_;        // How the most similar of the others differs...
  size_t fewest_ = 0;          // ...and in how many facts.
  std::string nearest_path_;   // Of its key.
};

void Use(OpenImage image, const std::string& key, ImageAnswer* answer) {
  image::NoteUse(key);
  const std::string path = image::ImageOf(key);
  if (image::IsAdopted(key)) image::NoteUse(image::KeyOf(path));
  answer->fd = image.fd;
  answer->inodes = std::move(image.inodes);
  answer->moved = image.moved;
  answer->why = path;
}

void Find(const ImageQuery& query, const std::vector<std::string>& keys,
          const image::ImageOrder& order, ImageAnswer* answer) {
  const std::string& folder = query.folder;
  Search search(order, query.options.cache_mode, query.explain);
  for (const std::string& key : keys) {
    if (OpenImage image = search.Try(key); image.fd >= 0) {
      return Use(std::move(image), search.path(), answer);
    }
  }
  if (OpenImage image = search.TryElsewhere(); image.fd >= 0) {
    Use(std::move(image), search.path(), answer);
    answer->note = "made on another host, in another boot or of other copies of its files";
    return;
  }
  answer->why = search.Why();
  if (!answer->why.empty()) return;
  const auto note =
      cache::PosixFileEnv().ReadFile(image::NoteFor(folder, order.command, order.facts), 4096);
  const bool under_way =
      note && note->starts_with(image::kUnfinished) && image::IsBeingMade(folder);
  answer->why = note && !under_way ? "none: " + *note : "none yet";
}

}  // namespace

ImageAnswer FindImage(const ImageQuery& query, char** environment) {
  ImageAnswer answer;
  const Program program = Describe(query.options);
  answer.why = WhyNone(query, program);
  if (!answer.why.empty()) return answer;
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  image::ImageOrder& order = answer.order;
  order.command = CommandFacts(query, program);
  order.facts = AllFacts(query, order.command);
  if (!KnowsBoot(order.facts)) {
    answer.why = "nothing tells this boot from another: neither /proc/sys nor /proc/stat";
    return answer;
  }
  if (image::ValueOf(order.facts, image::kProcessor).empty()) {
    answer.why = "this processor has not all that the level of --cpu demands";
    return answer;
  }
  order.started_ns = cache::NanosecondsOf(now);
  order.shared = query.options.image_shared;
  order.cpu = query.options.cpu;
  order.environment = image::EnvironmentFacts(environment);
  order.askable = AskableFacts(query.options);
  const CacheMode mode = query.options.cache_mode;
  const auto keys = image::KeysOf(query.folder, order.command, image::HostOf(order.facts));
  if (!keys) {  // What would be made there, nobody would find.
    answer.why = "none: " + keys.error().message;
    return answer;
  }
  if (mode != CacheMode::kRefresh) {
    Find(query, *keys, order, &answer);
    if (answer.fd >= 0) return answer;
  }
  if (mode == CacheMode::kReadonly || mode == CacheMode::kSealed) return answer;
  if (mode == CacheMode::kAuto && !query.options.image_build) {
    if (const std::string why = image::WhyNotAnother(query.folder, order); !why.empty()) {
      answer.why += why;
      return answer;
    }
  }
  rlimit stack;
  getrlimit(RLIMIT_STACK, &stack);
  order.stack_limit = stack.rlim_cur;
  order.hooks = query.hooks;
  order.allowed = query.options.image_allow;
  order.folder = query.folder;
  order.late = image::ReadLate(image::LateFor(order.folder, order.command, order.facts),
                               query.plan.entries.size());
  return answer;
}

bool MakeRoom() {
  rlimit stack;
  if (getrlimit(RLIMIT_STACK, &stack) != 0 || stack.rlim_max != RLIM_INFINITY) return false;
  stack.rlim_cur = RLIM_INFINITY;
  return setrlimit(RLIMIT_STACK, &stack) == 0;
}

}  // namespace pylaunch
