#include "launcher/command_line/man_page.h"

#include "launcher/command_line/completion.h"
#include "launcher/contract/text.h"

namespace pylaunch {
namespace {

// groff makes a hyphen of '-' and a typographic quote of '\''; a line must not begin with '.'.
std::string Roff(std::string_view text) {
  std::string roff;
  for (const char c : text) {
    if (c == '-' || c == '\\') roff += '\\';
    roff += c == '\'' ? "\\(aq" : c == '\\' ? "e" : std::string(1, c);
  }
  return roff;
}

std::string Entry(const OwnOption& option) {
  const std::string value = option.value == nullptr ? "" : Cat(" \\fI", option.value, "\\fR");
  std::string entry =
      Cat(".TP\n\\fB", Roff(option.name), "\\fR", value, "\n", Roff(Meaning(option)), ".\n");
  if (option.choices != nullptr) entry += Cat("Values: ", Roff(option.choices), ".\n");
  if (option.twin != nullptr) entry += Cat("Variable: \\fB", option.twin, "\\fR.\n");
  return entry;
}

constexpr char kHead[] = R"(.SH NAME
pylaunch \- a python that starts warm
.SH SYNOPSIS
.B pylaunch
[\fIoptions\fR] [\fIpython options\fR]
[\fB\-c\fR \fICMD\fR | \fB\-m\fR \fIMOD\fR | \fIFILE\fR | \fB\-\fR] [\fIARGS\fR]
.SH DESCRIPTION
Runs the very Python that is there.
It loads the imports that you name on one thread before the program\(aqs first line,
keeps the bytecode of all that was imported in one file,
and with \fB\-\-image\fR keeps the whole preloaded process.
.PP
Every command line of python(1) means the same here.
The options below stand before the program, also between Python\(aqs.
Each has a variable that says the same, and wins over it.
\fB\-\-name=\fIvalue\fR and \fB\-\-name \fIvalue\fR both work.
)";
constexpr char kTail[] = R"(.SH EXIT STATUS
The program\(aqs.
2 if the command line or a preload file is wrong;
1 if what ends without a program, as \fB\-\-doctor\fR, found something.
.SH FILES
.TP
\fI~/.cache/pylaunch\fR
Archives and images, where \fBXDG_CACHE_HOME\fR and \fB\-\-cache\fR say nothing else.
.SH EXAMPLES
.nf
pylaunch \-\-record configs.txt train.py
pylaunch \-\-image \-\-preload configs.txt train.py
pylaunch \-\-doctor train.py
.fi
.SH SEE ALSO
.BR python (1)
)";

}  // namespace

std::string ManPage(std::string_view version, std::span<const OwnOption> options) {
  std::string page =
      Cat(".TH PYLAUNCH 1 \"\" \"pylaunch ", version, "\" \"User Commands\"\n", kHead);
  for (const bool of_workers : {false, true}) {
    page += of_workers ? ".SH OPTIONS OF WORKERS\nThese go with \\fB\\-\\-workers\\fR.\n"
                       : ".SH OPTIONS\n";
    for (const OwnOption& option : options) {
      if (option.of_workers == of_workers) page += Entry(option);
    }
  }
  return page + kTail;
}

}  // namespace pylaunch
