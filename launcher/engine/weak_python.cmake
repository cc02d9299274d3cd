# Why: the loader can also put the engine into a program that has no Python, as happens when a tool such as valgrind starts pylaunch
# and replaces the executable by its own. There the engine must do nothing, not stop the program, so whatever the loader looks up at
# once is weak: CPython's data, and the functions whose address we take. Functions that are only called it looks up at their first call.

# Sets `out` to a header, to be included before any other, that makes all data weak which the headers in folder `include` declare.
function(pylaunch_weak_python minor include out)
  # Functions, and what shares a line with another declaration (3.10's boolobject.h).
  set(names Py_RunMain _Py_FalseStruct _Py_TrueStruct)
  file(GLOB headers ${include}/*.h ${include}/cpython/*.h)
  foreach(header IN LISTS headers)
    file(STRINGS ${header} lines ENCODING UTF-8 REGEX "PyAPI_DATA\\(.*\\) *\\**_?Py")
    foreach(line IN LISTS lines)
      if(line MATCHES "PyAPI_DATA\\([^)]*\\) *\\**(_?Py[A-Za-z0-9_]+)")
        list(APPEND names ${CMAKE_MATCH_1})
      endif()
    endforeach()
  endforeach()
  list(SORT names)
  list(REMOVE_DUPLICATES names)
  list(TRANSFORM names PREPEND "#pragma weak ")
  list(JOIN names "\n" pragmas)
  set(${out} ${CMAKE_CURRENT_BINARY_DIR}/weak_python-${minor}.h)
  file(CONFIGURE OUTPUT ${${out}} CONTENT "${pragmas}\n" @ONLY)
  set(${out} ${${out}} PARENT_SCOPE)
endfunction()
