#include "launcher/image_lookup.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>

#include "cache/file_env.h"
#include "image/collection.h"

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
  std::string kind;     // "-c", "-m", "file" or "stdin".
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
    program.kind = "stdin";
  } else if (argv[at][0] == '-') {
    program.kind = program.options.ends_with('m') ? "-m" : "-c";
  } else {
    program.kind = "file";
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

Facts CommandFacts(const ImageQuery& query, const Program& program) {
  Handoff plan;
  plan.plan = query.plan;
  Facts facts = {{"python", query.python},
                 {"python options", program.options},
                 {"kind of program", program.kind},
                 {"program folder", program.folder},
                 {"preload plan", image::Hashed(plan.Serialize())}};
  return facts;
}

Facts AllFacts(const ImageQuery& query, const Facts& command, char** environment) {
  Facts facts = command;
  facts.push_back({"engine", query.engine});
  facts.push_back({"engine file", image::Text(image::StateOf(query.engine))});
  facts.push_back({"restorer", image::Text(image::StateOf(query.restorer))});
  if (DependsOnFolder(getenv("PYTHONPATH"))) facts.push_back({"working directory", Folder()});
  for (Fact& fact : image::MachineFacts()) facts.push_back(std::move(fact));
  for (Fact& fact : image::EnvironmentFacts(environment)) facts.push_back(std::move(fact));
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
  if (query.folder.empty()) return "the cache is off";
  if (HasSwitch(options, 'v') || getenv("PYTHONVERBOSE") != nullptr ||
      options.find("importtime") != options.npos || getenv("PYTHONPROFILEIMPORTTIME") != nullptr) {
    return "imports are to be reported";
  }
  if (!query.options.record.empty() || !query.options.report.empty()) {
    return "imports are to be recorded";
  }
  for (const std::string& word : query.options.python_argv) {
    if (word.find("resource_tracker import main") != word.npos) return "a resource tracker";
  }
  if ((personality(0xffffffff) & ADDR_NO_RANDOMIZE) != 0) return "addresses are not randomised";
  if (geteuid() != getuid() || getegid() != getgid()) return "another user's rights";
  return "";
}

// Opens a file that nobody else could have written; -1 otherwise.
int OpenOwn(const std::string& path, struct stat* st) {
  const int fd = open(path.c_str(), O_RDONLY | O_NOFOLLOW);
  if (fd < 0) return -1;
  if (fstat(fd, st) == 0 && S_ISREG(st->st_mode) && st->st_uid == geteuid() &&
      (st->st_mode & 077) == 0) {
    return fd;
  }
  close(fd);
  errno = EPERM;
  return -1;
}

std::optional<image::Key> ReadKey(const std::string& path, std::string* why) {
  struct stat st;
  const int fd = OpenOwn(path, &st);
  if (fd < 0) {
    *why = errno == ENOENT ? "none yet" : path + ": another user could have written it";
    return std::nullopt;
  }
  std::string bytes(static_cast<size_t>(st.st_size), '\0');
  const ssize_t n = read(fd, bytes.data(), bytes.size());
  close(fd);
  std::optional<image::Key> key;
  if (n == static_cast<ssize_t>(bytes.size())) key = image::Key::Parse(bytes);
  if (!key) *why = path + " is damaged";
  return key;
}

bool TableIsWhole(int fd, const image::Key& key) {
  std::string table(key.table_size, '\0');
  return pread(fd, table.data(), table.size(), 0) == static_cast<ssize_t>(table.size()) &&
         image::TableHash(table) == key.table;
}

// The descriptor of the image if every check allows it, else -1 and why.
int Check(const image::ImageFiles& files, const Facts& facts, std::string* why) {
  const std::optional<image::Key> key = ReadKey(files.key, why);
  if (!key) return -1;
  *why = image::Difference(key->facts, facts);
  if (why->empty()) *why = image::FirstChange(*key);
  if (!why->empty()) return -1;
  struct stat st;
  const int fd = OpenOwn(files.image, &st);
  if (fd < 0) {
    *why = files.image + ": " + std::strerror(errno);
    return -1;
  }
  if (image::StateOf(st) == key->image && TableIsWhole(fd, *key)) return fd;
  close(fd);
  *why = files.image + " is damaged: it is not what was written";
  return -1;
}

// How the facts differ from those of another image of this command, for people.
std::string NearMiss(const std::string& folder, const image::ImageFiles& files,
                     const Facts& facts) {
  auto names = cache::PosixFileEnv().ListFolder(folder);
  size_t fewest = facts.size();
  std::string nearest;
  for (const std::string& name : names ? *names : std::vector<std::string>()) {
    std::string ignored;
    if (!name.starts_with(files.family) || !name.ends_with(".key")) continue;
    const std::optional<image::Key> key = ReadKey(folder + "/" + name, &ignored);
    if (!key) continue;
    const auto differ =
        static_cast<size_t>(std::count_if(facts.begin(), facts.end(), [&key](const Fact& fact) {
          return std::find(key->facts.begin(), key->facts.end(), fact) == key->facts.end();
        }));
    if (differ >= fewest) continue;
    fewest = differ;
    nearest = image::Difference(key->facts, facts);
  }
  if (!nearest.empty()) return "none for this state: " + nearest;
  auto note = cache::PosixFileEnv().ReadFile(files.note, 4096);
  return note ? "none: " + *note : "none yet";
}

}  // namespace

ImageAnswer FindImage(const ImageQuery& query, char** environment) {
  ImageAnswer answer;
  const Program program = Describe(query.options);
  answer.why = WhyNone(query, program);
  if (!answer.why.empty()) return answer;
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  ImageOrder& order = answer.order;
  order.command = CommandFacts(query, program);
  order.facts = AllFacts(query, order.command, environment);
  const image::ImageFiles files = image::FilesFor(query.folder, order.command, order.facts);
  if (query.options.cache_mode != CacheMode::kRefresh) {
    answer.fd = Check(files, order.facts, &answer.why);
  }
  if (answer.fd >= 0) {
    image::NoteUse(files.key);
    answer.why = files.image;
    return answer;
  }
  if (answer.why == "none yet" && query.explain) {
    answer.why = NearMiss(query.folder, files, order.facts);
  }
  if (query.options.cache_mode == CacheMode::kReadonly) return answer;
  rlimit stack;
  getrlimit(RLIMIT_STACK, &stack);
  order.stack_limit = stack.rlim_cur;
  order.started_ns = now.tv_sec * 1'000'000'000 + now.tv_nsec;
  order.hooks = query.hooks;
  order.folder = query.folder;
  return answer;
}

bool MakeRoom() {
  rlimit stack;
  if (getrlimit(RLIMIT_STACK, &stack) != 0 || stack.rlim_max != RLIM_INFINITY) return false;
  stack.rlim_cur = RLIM_INFINITY;
  return setrlimit(RLIMIT_STACK, &stack) == 0;
}

}  // namespace pylaunch
