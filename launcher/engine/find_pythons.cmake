# Which CPythons to build engines for: one a minor version from 3.10 to 3.15, of those on this machine that have headers, and of those
# whose headers alone are here.

# Sets `out` to triples "minor;include;executable", flat: of the interpreters named in `wanted`, or where that is empty of all that
# are found: the project's .venv, python3.N and python3 on PATH and where Debian puts them, and pyenv's versions, which pyenv hides
# from PATH unless they are active. Before all others comes the one that `pip install` runs on, last the headers that
# scripts/newer-pythons has put into the build folder, as a triple without an executable. The first of a minor wins. What is named
# must have headers; what is only found may lack them.
function(pylaunch_find_pythons out wanted)
  set(candidates ${wanted})
  if(NOT wanted)
    set(candidates ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/.venv/bin/python)
    foreach(name IN ITEMS python3 python3.15 python3.14 python3.13 python3.12 python3.11 python3.10)
      list(APPEND candidates ${name} /usr/local/bin/${name} /usr/bin/${name})
    endforeach()
    pylaunch_pyenv_root(pyenv)
    foreach(minor IN ITEMS 15 14 13 12 11 10)
      file(GLOB found LIST_DIRECTORIES false "${pyenv}/versions/3.${minor}.*/bin/python3.${minor}")
      list(SORT found COMPARE NATURAL ORDER DESCENDING)
      list(APPEND candidates ${found})
    endforeach()
  endif()
  set(triples "")
  foreach(python IN LISTS candidates)
    if(python MATCHES "python(3\\.[0-9]+)$" AND CMAKE_MATCH_1 IN_LIST triples)
      continue()
    endif()
    pylaunch_describe_python(${python} minor include executable)
    if(include STREQUAL "" AND wanted)
      message(FATAL_ERROR "${python} is no CPython 3.10 to 3.15 with headers (Python.h)")
    endif()
    if(NOT include STREQUAL "" AND NOT minor IN_LIST triples)
      message(STATUS "Engine for CPython ${minor}: ${include}")
      list(APPEND triples ${minor} ${include} ${executable})
    endif()
  endforeach()
  if(NOT wanted)
    pylaunch_add_headers(triples)
  endif()
  if(NOT triples)
    message(FATAL_ERROR "No CPython 3.10 to 3.15 with headers was found; name one with -DPYLAUNCH_PYTHONS=/path/to/python")
  endif()
  set(${out} ${triples} PARENT_SCOPE)
endfunction()

# Adds to the triples in `out` those of scripts/newer-pythons, whose interpreters run in another root than this.
function(pylaunch_add_headers out)
  set(added ${${out}})
  file(GLOB folders ${PROJECT_BINARY_DIR}/headers/python3.*)
  foreach(include IN LISTS folders)
    string(REGEX MATCH "3\\.[0-9]+$" minor ${include})
    if(NOT minor IN_LIST added)
      message(STATUS "Engine for CPython ${minor}: ${include}")
      list(APPEND added ${minor} ${include} -)
    endif()
  endforeach()
  set(${out} ${added} PARENT_SCOPE)
endfunction()

# The minor version ("3.11"), the folder of Python.h and the executable that a shim stands for; all empty for what does not run, has
# no headers or is not ours to enter.
function(pylaunch_describe_python python minor include executable)
  string(JOIN "\n" program
    "import os, sys, sysconfig"
    "include = sysconfig.get_path('include')"
    "ours = sys.implementation.name == 'cpython' and (3, 10) <= sys.version_info[:2] <= (3, 15)"
    "ours = ours and not sysconfig.get_config_var('Py_GIL_DISABLED')"
    "if ours and os.path.exists(os.path.join(include, 'Python.h')):"
    "    print('%d.%d' % sys.version_info[:2], include, sys.executable, sep='\\n')")
  execute_process(
    COMMAND ${python} -I -c "${program}" OUTPUT_VARIABLE described ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  string(REPLACE "\n" ";" described "${described}")
  list(LENGTH described length)
  if(NOT length EQUAL 3)
    set(described ";;")
  endif()
  list(GET described 0 first)
  list(GET described 1 second)
  list(GET described 2 third)
  set(${minor} "${first}" PARENT_SCOPE)
  set(${include} "${second}" PARENT_SCOPE)
  set(${executable} "${third}" PARENT_SCOPE)
endfunction()

function(pylaunch_pyenv_root out)
  set(root "$ENV{PYENV_ROOT}")
  if(NOT root)
    execute_process(COMMAND pyenv root OUTPUT_VARIABLE root ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  endif()
  if(NOT root)
    set(root "$ENV{HOME}/.pyenv")
  endif()
  set(${out} "${root}" PARENT_SCOPE)
endfunction()
