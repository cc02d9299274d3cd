#ifndef PYLAUNCH_IMAGE_FACTS_H_
#define PYLAUNCH_IMAGE_FACTS_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

// What must be equal for an image to be used: facts about the host, the command and the
// environment, each with a name. They are matched by name: whoever makes one or looks for one takes
// the name from here. People see the names, too (--explain, --stats).

namespace pylaunch::image {

// `value` is for comparison only; what may be secret is put in as a hash.
struct Fact {
  std::string name;
  std::string value;
  bool operator==(const Fact&) const = default;
};
using Facts = std::vector<Fact>;

// Of the command: which images belong together (launcher/images/lookup.cc).
inline constexpr char kPython[] = "python";
inline constexpr char kPythonOptions[] = "python options";
inline constexpr char kProgramKind[] = "kind of program";
inline constexpr char kProgramFolder[] = "program folder";
inline constexpr char kPreloadPlan[] = "preload plan";
// Values of kProgramKind; the other two are Python's options "-c" and "-m".
inline constexpr char kFileKind[] = "file";
inline constexpr char kInputKind[] = "stdin";

// Of what makes and restores images.
inline constexpr char kEngine[] = "engine";
inline constexpr char kEngineFile[] = "engine file";
inline constexpr char kRestorerFile[] = "restorer";
inline constexpr char kAllowedSecrets[] = "allowed secrets";

// Of the machine; MachineFacts has more.
inline constexpr char kBoot[] = "boot id";  // No value where nothing tells this boot from another.
inline constexpr char kKernel[] = "kernel";
inline constexpr char kVdso[] = "vdso";
// Words of cpuid and XCR0, hexadecimal.
inline constexpr char kProcessor[] = "processor";
// Lists as in cpuset(7), "0-3,8".
inline constexpr char kOnlineProcessors[] = "online processors";
inline constexpr char kAffinity[] = "processor affinity";

// Asked, not facts: how many processors there are, or how many may be used; and what the parts of
// their state are that must be saved (travel.cc).
inline constexpr char kProcessors[] = "number of processors";
inline constexpr char kExtendedState[] = "extended state of the processor";

// Of who runs it. The first counts for an image that others may use only if preloading asked.
inline constexpr char kUser[] = "user";
inline constexpr char kGroups[] = "supplementary groups";
inline constexpr char kCapabilities[] = "capabilities";
// How kBoot's value begins where it is the boot's time, for want of an id.
inline constexpr std::string_view kBootTime = "btime ";

// That count only if preloading asked for them.
inline constexpr char kWorkingDirectory[] = "working directory";
inline constexpr char kProgramName[] = "name of program";
inline constexpr char kArguments[] = "arguments";
inline constexpr char kCommandLine[] = "command line";  // Of Python: sys.orig_argv.
inline constexpr char kHostName[] = "host name";
std::string TerminalFact(int stream);
std::string IgnoredFact(int signal);
// How the names of those of the kernel's files begin (kernel_files.h).
inline constexpr std::string_view kKernelFile = "kernel file ";

// How the names of the environment's begin.
inline constexpr std::string_view kVariable = "variable ";

// A keyed hash of a value that is not to be kept, as text.
std::string Hashed(std::string_view value);

// The value, or an empty string.
const std::string& ValueOf(const Facts& facts, std::string_view name);

// Of this process and its machine: boot, kernel, vdso, processor, C library's view of it, user,
// supplementary groups, capabilities, umask, affinity, open standard streams,
// stack limit. Call while there is one thread only: the umask cannot be read without setting it.
Facts MachineFacts();

// Variables that what became an image has read, whether they were set or not.
struct VariableReads {
  std::vector<std::string> names;     // Ascending.
  std::vector<std::string> prefixes;  // All variables whose names begin so.
  std::string all;  // Why all of them count: in words, who may have gone through them; or empty.
};
// Every variable; one fact each, by name.
Facts EnvironmentFacts(char** environment);
// Of these the ones that `reads` makes part of an image's facts: those named there, those that C
// libraries and Python itself read where nobody can see it, and where `all` is true all but
// pylaunch's own and those that shells and terminals change from start to start.
Facts Counting(const Facts& environment, const VariableReads& reads);

// Of facts that count only if they were asked for, those that were; kernel_files.h's as they are
// now.
Facts Asked(const Facts& askable, const std::vector<std::string>& names);

// In words, what differs, or an empty string. "boot id changed"; "variable HOME changed".
std::string Difference(const Facts& made, const Facts& now);

// How many of `facts` do not stand in `in`.
size_t CountMissing(const Facts& facts, const Facts& in);

}  // namespace pylaunch::image

#endif  // PYLAUNCH_IMAGE_FACTS_H_
