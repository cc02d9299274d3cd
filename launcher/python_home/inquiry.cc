#include "launcher/python_home/inquiry.h"

#include <limits.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "launcher/contract/text.h"
#include "launcher/python_home/probe.h"
#include "launcher/python_home/records.h"
#include "launcher/python_home/shims.h"

namespace pylaunch::home {
namespace {

class Inquiry {
 public:
  Inquiry(const HomeQuery& query, const std::optional<FileState>& self,
          const std::string& candidate, const Stamp& stamp)
      : query_(query), self_(self), candidate_(candidate), stamp_(stamp) {
    if (!query.cache_folder.empty()) {
      record_path_ = Cat(query.cache_folder, "/pythons/", Digest(candidate), ".json");
    }
  }

  // False: see cause().
  bool Identify(PythonHome* home) {
    if (!query_.exact_version && TellByName(home)) return true;
    if (!record_path_.empty()) record_ = LoadRecord(record_path_).value_or(Record());
    if (record_.candidate == candidate_ && record_.candidate_stamp == stamp_) {
      for (const Known& known : record_.answers) {
        if (Holds(known)) return Fill(known, home);
      }
    } else {
      record_ = {candidate_, stamp_, {}};
    }
    Known known;
    return Ask(&known) && Fill(known, home);
  }

  const std::string& cause() const { return cause_; }

 private:
  // CPython installs its executable as "python3.11" and all else as links to it; other
  // implementations and free-threaded builds ("python3.13t") have other names. The engine makes
  // sure again, so nothing needs to be run to ask, and no record to be read.
  bool TellByName(PythonHome* home) const {
    char path[PATH_MAX];
    if (realpath(candidate_.c_str(), path) == nullptr) return false;
    const std::optional<std::string> loader = LoaderOf(path);
    if (!loader.has_value()) return false;
    const std::string base(std::strrchr(path, '/') + 1);
    int end = 0;
    int minor = 0;
    if (std::sscanf(base.c_str(), "python3.%d%n", &minor, &end) != 1 ||
        end != static_cast<int>(base.size())) {
      return false;
    }
    home->candidate = home->executable = candidate_;
    home->major = 3;
    home->minor = minor;
    home->version = Cat("3.", std::to_string(minor));
    home->implementation = "cpython";
    home->loader = *loader;
    return true;
  }

  bool Holds(const Known& known) {
    if (!known.inputs.empty() && known.inputs != Inputs()) return false;
    if (known.executable == candidate_) return known.executable_stamp == stamp_;
    const std::optional<FileState> now = Look(known.executable);
    return now.has_value() && now->stamp == known.executable_stamp && !IsSelf(*now);
  }

  bool IsSelf(const FileState& file) const {
    return self_.has_value() && self_->stamp.SameFile(file.stamp);
  }

  const std::string& Inputs() {
    if (inputs_.empty()) inputs_ = ShimInputs(query_.getenv, candidate_);
    return inputs_;
  }

  bool Ask(Known* known) {
    Inputs();  // Before the candidate reads them: a change meanwhile must make the answer stale.
    const std::optional<Answer> answer = Probe(candidate_, query_.probe_timeout, &cause_);
    if (!answer.has_value()) return false;
    known->version = answer->version;
    known->implementation = answer->implementation;
    known->free_threaded = answer->abi_flags.find('t') != std::string::npos;
    if (!ChooseExecutable(*answer, known)) {
      cause_ = "names no executable file that runs it";
      return false;
    }
    if (!record_path_.empty()) Remember(*known);
    return true;
  }

  bool ChooseExecutable(const Answer& answer, Known* known) {
    for (const std::string& path : answer.executables) {
      const std::optional<FileState> file = path.starts_with('/') ? Look(path) : std::nullopt;
      if (!file.has_value() || !file->IsProgram() || IsSelf(*file) || !LoaderOf(path)) continue;
      const bool itself = file->stamp.SameFile(stamp_);
      known->executable = itself ? candidate_ : path;
      known->executable_stamp = file->stamp;
      known->inputs = itself ? "" : Inputs();
      return true;
    }
    return false;
  }

  void Remember(const Known& known) {
    std::vector<Known>& answers = record_.answers;
    std::erase_if(answers, [&](const Known& old) { return old.inputs == known.inputs; });
    answers.insert(answers.begin(), known);
    if (answers.size() > kMaxAnswers) answers.resize(kMaxAnswers);
    SaveRecord(record_path_, record_);
  }

  bool Fill(const Known& known, PythonHome* home) const {
    home->candidate = candidate_;
    home->executable = known.executable;
    home->version = known.version;
    home->implementation = known.implementation;
    home->free_threaded = known.free_threaded;
    home->loader = LoaderOf(known.executable).value_or("");
    return std::sscanf(known.version.c_str(), "%d.%d", &home->major, &home->minor) == 2;
  }

  const HomeQuery& query_;
  const std::optional<FileState>& self_;
  const std::string& candidate_;
  const Stamp stamp_;
  std::string record_path_;
  Record record_;
  std::string inputs_;
  std::string cause_;
};

}  // namespace

bool Identify(const HomeQuery& query, const std::optional<FileState>& self,
              const std::string& candidate, const Stamp& stamp, PythonHome* home,
              std::string* cause) {
  Inquiry inquiry(query, self, candidate, stamp);
  const bool identified = inquiry.Identify(home);
  *cause = inquiry.cause();
  return identified;
}

}  // namespace pylaunch::home
