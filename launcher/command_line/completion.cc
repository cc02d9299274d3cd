#include "launcher/command_line/completion.h"

#include "launcher/contract/text.h"

// Reading order: Kind says what completes a value; then each shell's script, a constant frame with
// the table's rows in it.

namespace pylaunch {
namespace {

enum class Kind { kSwitch, kChoices, kFile, kFolder, kCommand, kOther };

Kind KindOf(const OwnOption& option) {
  if (option.value == nullptr) return Kind::kSwitch;
  if (option.choices != nullptr) return Kind::kChoices;
  const std::string_view value = option.value;
  if (value == "FILE" || value == "ARG") return Kind::kFile;
  if (value == "DIR") return Kind::kFolder;
  return value == "PYTHON" ? Kind::kCommand : Kind::kOther;
}

// `text` with a backslash before each of `special`.
std::string Escaped(std::string_view text, std::string_view special) {
  std::string escaped;
  for (const char c : text) {
    if (special.find(c) != special.npos) escaped += '\\';
    escaped += c;
  }
  return escaped;
}

// In single quotes, for a POSIX shell.
std::string Quoted(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

// The names with a blank between, of those for which `wanted` is true.
template <typename Wanted>
std::string Names(std::span<const OwnOption> options, std::string_view between, Wanted wanted) {
  std::string names;
  for (const OwnOption& option : options) {
    if (wanted(option)) names += Cat(names.empty() ? "" : between, option.name);
  }
  return names;
}

bool TakesValue(const OwnOption& option) { return option.value != nullptr; }

// --------------------------------------------------------------------------------------- bash

// bash takes "--name=value" apart at '=' (COMP_WORDBREAKS). No reply: -o default offers files.
constexpr char kBashHead[] = R"(# bash completion of pylaunch; made by 'pylaunch --completion bash'.
_pylaunch() {
  local i word value='' cur=${COMP_WORDS[COMP_CWORD]}
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; ++i)); do
    word=${COMP_WORDS[i]}
    if [[ -n $value ]]; then
      [[ $word == = ]] || value=''
      continue
    fi
    case $word in
)";
constexpr char kBashMiddle[] = R"(        value=$word ;;
      -[WX]) value=$word ;;
      -[WX]* | --*) ;;
      -*[cm]* | - | [!-=]*) return ;;
    esac
  done
  [[ $cur == = ]] && cur=''
  case $value in
)";
constexpr char kBashTail[] = R"(    '') [[ $cur == -* ]] || return 0
      COMPREPLY=($(compgen -W "$options" -- "$cur")) ;;
  esac
}
complete -o bashdefault -o default -F _pylaunch pylaunch
)";

std::string Bash(std::span<const OwnOption> options) {
  std::string script =
      Cat(kBashHead, "      ", Names(options, " | ", TakesValue), ")\n", kBashMiddle);
  for (const OwnOption& option : options) {
    if (option.choices != nullptr) {
      script += Cat("    ", option.name, ") COMPREPLY=($(compgen -W '", option.choices,
                    "' -- \"$cur\")) ;;\n");
    }
    if (KindOf(option) == Kind::kFolder) {
      script += Cat("    ", option.name, ") COMPREPLY=($(compgen -d -- \"$cur\")) ;;\n");
    }
  }
  const std::string all = Names(options, " ", [](const OwnOption&) { return true; });
  const size_t local = script.find("  COMPREPLY=()\n");
  script.insert(local, Cat("  local options='-c -m -u -E -I -O -W -X ", all, "'\n"));
  return script + kBashTail;
}

// ---------------------------------------------------------------------------------------- zsh

// As a file of $fpath it is the body of _pylaunch; where it is sourced it defines that.
constexpr char kZshHead[] = R"(#compdef pylaunch
# zsh completion of pylaunch; made by 'pylaunch --completion zsh'.
_pylaunch() {
  _arguments -S -A '-*' \
)";
constexpr char kZshTail[] = R"(    '(-)-c[run this]:command' \
    '(-)-m[run this module]:module' \
    '-u[write unbuffered]' \
    '-E[ignore PYTHON* and our variables]' \
    '-I[isolated]' \
    '*-O[optimise]' \
    '*-W+[warning filter]:filter' \
    '*-X+[implementation option]:option' \
    '1:program:_files' \
    '*::arguments: _files'
}
if [[ $funcstack[1] == _pylaunch ]]; then
  _pylaunch "$@"
else
  compdef _pylaunch pylaunch
fi
)";

std::string ZshValue(const OwnOption& option) {
  switch (KindOf(option)) {
    case Kind::kSwitch:
      return "";
    case Kind::kChoices:
      return Cat(":", option.value, ":(", option.choices, ")");
    case Kind::kFile:
    case Kind::kCommand:
      return Cat(":", option.value, ":_files");
    case Kind::kFolder:
      return Cat(":", option.value, ":_files -/");
    case Kind::kOther:
      return Cat(":", option.value, ": ");
  }
  return "";
}

std::string Zsh(std::span<const OwnOption> options) {
  std::string script = kZshHead;
  for (const OwnOption& option : options) {
    const std::string value = ZshValue(option);
    const std::string equals = value.empty() ? "" : "=";
    const bool repeats = std::string_view(option.name) == "--preload";
    script += Cat("    ",
                  Quoted(Cat(repeats ? "*" : "", option.name, equals, "[",
                             Escaped(Meaning(option), "[]:\\"), "]", value)),
                  " \\\n");
  }
  return script + kZshTail;
}

// --------------------------------------------------------------------------------------- fish

// -c also stands for -Bc, as in Python.
constexpr char kFishHead[] = R"(# fish completion of pylaunch; made by 'pylaunch --completion fish'.
function __pylaunch_before_program
    set -l words (commandline -opc)
    set -e words[1]
    set -l value no
    for word in $words
        if test $value = yes
            set value no
            continue
        end
        switch $word
            case )";
constexpr char kFishTail[] = R"( -W -X
                set value yes
            case '--*' '-W*' '-X*'
            case - '-*c*' '-*m*'
                return 1
            case '-*'
            case '*'
                return 1
        end
    end
    return 0
end
)";

std::string FishValue(const OwnOption& option) {
  switch (KindOf(option)) {
    case Kind::kSwitch:
      return "";
    case Kind::kChoices:
      return Cat(" -x -a ", Quoted(option.choices));
    case Kind::kFile:
    case Kind::kCommand:
      return " -r -F";
    case Kind::kFolder:
      return " -x -a '(__fish_complete_directories)'";
    case Kind::kOther:
      return " -x";
  }
  return "";
}

std::string Fish(std::span<const OwnOption> options) {
  std::string script = Cat(kFishHead, Names(options, " ", TakesValue), kFishTail);
  for (const OwnOption& option : options) {
    // In single quotes fish knows \' and \\.
    script += Cat("complete -c pylaunch -n __pylaunch_before_program -l ",
                  std::string_view(option.name).substr(2), FishValue(option), " -d '",
                  Escaped(Meaning(option), "'\\"), "'\n");
  }
  return script;
}

}  // namespace

std::string_view Meaning(const OwnOption& option) {
  return option.alone != nullptr ? option.alone : option.help;
}

std::string CompletionScript(std::string_view shell, std::span<const OwnOption> options) {
  if (shell == "bash") return Bash(options);
  if (shell == "zsh") return Zsh(options);
  return shell == "fish" ? Fish(options) : "";
}

}  // namespace pylaunch
