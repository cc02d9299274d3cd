#ifndef PYLAUNCH_LAUNCHER_ENGINE_BASE_KNOWN_LIST_H_
#define PYLAUNCH_LAUNCHER_ENGINE_BASE_KNOWN_LIST_H_

#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace pylaunch::engine {

// A list of libraries or modules of which somebody has read the source to say something of them;
// docs/lists.md tells which lists there are. A line vouches for the versions that were read and for
// no other: one of another version, or whose version nothing proves, is not in the list.
//
//   NAME [reads:PREFIX[,PREFIX...]] [types:TYPE[,TYPE...]] [WHAT==VERSION[,VERSION...]]...  # why
//   otherwise WORDS
//
// NAME:  of a library: its file up to the version, the ABI tag or the digest that auditwheel puts
//        into it ("libgomp" of "/a/libgomp-e985bcbb.so.1.0.0"), with the folders in front that lead
//        to it from where its distribution is installed ("torch/lib/libc10"). Of a module: its
//        name. Of a function: "MODULE:FUNCTION".
// WHAT:  any of several is enough.
//        build-id      the GNU build-id of the loaded library.
//        cpython       the minor version whose standard library the file lies in.
//        DISTRIBUTION  as the one DISTRIBUTION-VERSION.dist-info or .egg-info beside it tells.
//        cython-abi    for a type that all libraries share which one version of Cython has made:
//        that version, as the name of the type's module has it.
// TYPE:   the line is about types of this name only (tp_name).
// PREFIX: it reads variables of the environment whose names begin so, and no others.
// WORDS: what is done where the list does not vouch.
//
// scripts/check-lists reads the same files. On one thread at a time.
class KnownList {
 public:
  KnownList() = default;                               // Knows nothing.
  static KnownList Read(const std::string& path);      // The same without a readable file.
  KnownList(std::string name, std::string_view text);  // `name`: of the list, for ToReadAgain().

  // True if it vouches for the library at `path`, which is loaded. The answer is remembered.
  bool HasLibrary(std::string_view path);
  // The prefixes that the line has which vouches for the library; REQUIRES: HasLibrary(path).
  const std::vector<std::string>& ReadBy(std::string_view path) const;
  // True if it vouches for that type of the library; REQUIRES: HasLibrary(path).
  bool HasTypeOf(std::string_view path, std::string_view type) const;
  // True if the line for that name has this proof.
  bool HasProof(std::string_view name, std::string_view what, std::string_view version) const;
  // True if it vouches for the module, or the function of one, whose file that is.
  bool HasModule(std::string_view name, std::string_view file);
  // True if there is a line for that name, whatever it vouches for.
  bool Names(std::string_view name) const { return entries_.count(name) != 0; }

  // Asks for all that is loaded now, so that later answers read nothing.
  void ProveLoaded();
  // A sentence for each version that was asked for, is not vouched for, and of which another is.
  std::vector<std::string> ToReadAgain() const;

 private:
  struct Proof {
    std::string what;
    std::set<std::string, std::less<>> versions;
  };
  struct Entry {
    std::string path;  // As far as it is known, without what LibraryName() cuts off.
    std::vector<Proof> proofs;
    std::vector<std::string> reads;
    std::set<std::string, std::less<>> types;  // Empty: all.
  };
  void AddLine(std::string_view line);
  // The one that vouches, or null.
  const Entry* Judge(std::string_view key, std::string_view file);

  std::string name_, otherwise_;
  // By the last part of a library's name, by the whole one of a module.
  std::multimap<std::string, Entry, std::less<>> entries_;
  std::map<std::string, const Entry*, std::less<>> verdicts_;  // By path.
  std::set<std::string> to_read_;
};

}  // namespace pylaunch::engine

#endif  // PYLAUNCH_LAUNCHER_ENGINE_BASE_KNOWN_LIST_H_
