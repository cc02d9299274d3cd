#ifndef PYLAUNCH_LAUNCHER_CONTRACT_PYTHON_OPTIONS_H_
#define PYLAUNCH_LAUNCHER_CONTRACT_PYTHON_OPTIONS_H_

// CPython's short options: SHORT_OPTS of Python/getopt.c, 3.10 to 3.15. Freestanding:
// usual_start.cc reads it before there is a C library.

namespace pylaunch {

enum class PythonOption {
  kNone,         // Python refuses it; or a long option, which getopt.c takes "-B-help-all" for.
  kSwitch,       // Has no value; more letters may follow in the same word.
  kIsolating,    // Likewise, and PYTHON* and our own variables do not count.
  kTakesValue,   // The rest of the word, or the next word.
  kTakesProgram  // Likewise, and all that follows is the program's.
};

constexpr PythonOption KindOfPythonOption(char letter) {
  switch (letter) {
    case 'c':
    case 'm':
      return PythonOption::kTakesProgram;
    case 'W':
    case 'X':
      return PythonOption::kTakesValue;
    case 'E':
    case 'I':
      return PythonOption::kIsolating;
    default:
      for (const char* known = "bBdhiOPqRsStuvVx?"; *known != '\0'; ++known) {
        if (letter == *known) return PythonOption::kSwitch;
      }
      return PythonOption::kNone;
  }
}

}  // namespace pylaunch

#endif  // PYLAUNCH_LAUNCHER_CONTRACT_PYTHON_OPTIONS_H_
