#ifndef PYLAUNCH_IMAGE_HANDOFF_VARIABLE_H_
#define PYLAUNCH_IMAGE_HANDOFF_VARIABLE_H_

// The variable by which the front end tells what it becomes what is to be done. The engine takes it
// away before anything of Python runs. It has one of three forms:
//
//   PYLAUNCH_HANDOFF=<handoff>:<engine>:<pid>
//   PYLAUNCH_HANDOFF=<handoff>:<image>:<pid>:<attempt>:<moved>:<inodes>:<python>
//   PYLAUNCH_HANDOFF=usual:<pid>:<waits>:<python>\n<library>\n<cache folder>
//
// - for the engine that the dynamic loader puts into Python;
// - for the restorer (restore.cc), and in the image then for the engine there;
// - for the engine, where all else is as it is when nobody asks for anything (usual_start.cc).
//
// <handoff> is a descriptor of what launcher/contract/handoff.h has to say: the kernel limits one
// string to 128 KiB (MAX_ARG_STRLEN, execve(2)). <engine> is the one that the loader found the
// engine by, or -1. <pid>, which execve keeps, tells a process that is meant from a child that
// inherited the variable. <attempt> is one digit, which counts the layouts that the image did not
// fit into. <moved> is 1 where the image's times are to be moved (format.h), else 0. <python> is
// what the restorer executes where it cannot restore; if empty, it ends. <waits> is 1 where the
// program's end is the end of all (Handoff::wait_for_seal), else 0.
//
// Composed and parsed here alone, in programs that have no C library, so this needs none.

namespace pylaunch {

inline constexpr char kHandoffVariable[] = "PYLAUNCH_HANDOFF";
inline constexpr char kAnyInodes[] = "-";
// In no path of a usual start.
inline constexpr char kUsualSeparator = '\n';

namespace handoff_internal {

inline constexpr char kUsualMark[] = "usual:";

template <typename Put>
void PutText(const char* text, const Put& put) {
  for (; *text != '\0'; ++text) put(*text);
}

template <typename Put>
void PutNumber(long number, const Put& put) {
  if (number < 0) put('-');
  const unsigned long size =
      number < 0 ? 0 - static_cast<unsigned long>(number) : static_cast<unsigned long>(number);
  unsigned long unit = 1;
  while (size / unit >= 10) unit *= 10;
  for (; unit > 0; unit /= 10) put(static_cast<char>('0' + size / unit % 10));
}

// Behind `prefix`, where `text` begins so; else null.
inline char* After(const char* prefix, char* text) {
  for (; *prefix != '\0'; ++prefix, ++text) {
    if (*text != *prefix) return nullptr;
  }
  return text;
}

// Behind the number that `text` begins with, and a colon if one follows; null: it begins with none.
inline char* TakeNumber(char* text, long* number) {
  const bool negative = *text == '-';
  if (negative) ++text;
  if (*text < '0' || *text > '9') return nullptr;
  unsigned long size = 0;
  for (; *text >= '0' && *text <= '9'; ++text) {
    size = size * 10 + static_cast<unsigned long>(*text - '0');
  }
  *number = static_cast<long>(negative ? 0 - size : size);
  return *text == ':' ? text + 1 : *text == '\0' ? text : nullptr;
}

}  // namespace handoff_internal

// The next of <inodes>, behind which `at` is then; 0: there is none.
inline unsigned long TakeInode(const char** at) {
  unsigned long inode = 0;
  if (**at == ',') ++*at;
  for (;; ++*at) {
    const char c = **at;
    if (c >= '0' && c <= '9') {
      inode = inode * 16 + static_cast<unsigned long>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      inode = inode * 16 + static_cast<unsigned long>(c - 'a' + 10);
    } else {
      return inode;
    }
  }
}

// `put` is called with one character of the value after the other.
template <typename Put>
void PutEngineHandoff(int handoff, int engine, long pid, const Put& put) {
  handoff_internal::PutNumber(handoff, put);
  put(':');
  handoff_internal::PutNumber(engine, put);
  put(':');
  handoff_internal::PutNumber(pid, put);
}

template <typename Put>
void PutImageHandoff(int handoff, int image, long pid, bool moved, const char* inodes,
                     const char* python, const Put& put) {
  PutEngineHandoff(handoff, image, pid, put);
  handoff_internal::PutText(moved ? ":0:1:" : ":0:0:", put);
  handoff_internal::PutText(inodes, put);
  put(':');
  handoff_internal::PutText(python, put);
}

// REQUIRES: no path has a kUsualSeparator.
template <typename Put>
void PutUsualHandoff(long pid, bool waits, const char* python, const char* library,
                     const char* cache_folder, const Put& put) {
  handoff_internal::PutText(handoff_internal::kUsualMark, put);
  handoff_internal::PutNumber(pid, put);
  handoff_internal::PutText(waits ? ":1:" : ":0:", put);
  handoff_internal::PutText(python, put);
  put(kUsualSeparator);
  handoff_internal::PutText(library, put);
  put(kUsualSeparator);
  handoff_internal::PutText(cache_folder, put);
}

// A value. What is null or -1, its form has not.
struct HandoffVariable {
  int handoff = -1;
  int second = -1;  // The engine's descriptor, or the image's.
  long pid = 0;
  char* attempt = nullptr;  // Where the digit stands: it may be changed there.
  bool moved = false;
  const char* inodes = nullptr;  // Up to a colon.
  const char* python = nullptr;
  const char* usual = nullptr;  // The three paths.
  bool waits = false;
};

// The value that `entry` of the environment sets, or null: it is another variable's.
inline char* HandoffValue(char* entry) {
  char* behind = handoff_internal::After(kHandoffVariable, entry);
  return behind == nullptr || *behind != '=' ? nullptr : behind + 1;
}

// What is pointed at lies in `value`. False: it has none of the forms.
inline bool ParseHandoffVariable(char* value, HandoffVariable* parsed) {
  using handoff_internal::TakeNumber;
  if (char* usual = handoff_internal::After(handoff_internal::kUsualMark, value)) {
    long waits = 0;
    usual = TakeNumber(usual, &parsed->pid);
    if (usual != nullptr) usual = TakeNumber(usual, &waits);
    parsed->usual = usual;
    parsed->waits = waits != 0;
    return usual != nullptr && usual[-1] == ':';
  }
  long handoff, second;
  char* at = TakeNumber(value, &handoff);
  if (at != nullptr) at = TakeNumber(at, &second);
  if (at != nullptr) at = TakeNumber(at, &parsed->pid);
  if (at == nullptr) return false;
  parsed->handoff = static_cast<int>(handoff);
  parsed->second = static_cast<int>(second);
  if (at[-1] != ':') return true;
  if (at[0] < '0' || at[0] > '9' || at[1] != ':') return false;
  parsed->attempt = at;
  if ((at[2] != '0' && at[2] != '1') || at[3] != ':') return false;
  parsed->moved = at[2] == '1';
  parsed->inodes = at + 4;
  for (at += 4; *at != '\0' && *at != ':';) ++at;
  if (*at != ':') return false;
  parsed->python = at + 1;
  return true;
}

}  // namespace pylaunch

#endif  // PYLAUNCH_IMAGE_HANDOFF_VARIABLE_H_
