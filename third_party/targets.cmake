# Finds the dependencies, ends the configuration where one is missing or too old, and gives each library a target third_party::NAME.
list(APPEND CMAKE_MODULE_PATH ${CMAKE_CURRENT_LIST_DIR})

function(third_party_needs use package name minimum)
  set_property(GLOBAL PROPERTY third_party_${name} ${package} ${minimum})
endfunction()
include(${CMAKE_CURRENT_LIST_DIR}/versions.cmake)

# `found`: the version of `name` that is there; empty: none is.
function(third_party_check name found)
  get_property(needs GLOBAL PROPERTY third_party_${name})
  if(NOT needs)
    message(FATAL_ERROR "third_party/versions.cmake has no line for ${name}")
  endif()
  list(GET needs 0 package)
  list(GET needs 1 minimum)
  if(found STREQUAL "")
    message(FATAL_ERROR "${name} (Debian's ${package}) was not found\n  cause: wanted ${minimum} or newer\n  hint:  scripts/build installs it")
  elseif(found VERSION_LESS minimum)
    message(FATAL_ERROR
      "${name} (Debian's ${package}) is too old\n  cause: found ${found}, wanted ${minimum} or newer\n  hint:  Debian 12 has what is wanted")
  endif()
endfunction()

macro(third_party_find name)
  find_package(${name} QUIET)
  third_party_check(${name} "${${name}_VERSION}")
endmacro()

third_party_check(CMake ${CMAKE_VERSION})
third_party_check(${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION})
find_package(PkgConfig QUIET)
third_party_check(PkgConfig "${PKG_CONFIG_VERSION_STRING}")

third_party_find(absl)
third_party_find(xxhash)
third_party_find(CLI11)
add_library(third_party::cli11 ALIAS CLI11::CLI11)
third_party_find(nlohmann_json)
add_library(third_party::json ALIAS nlohmann_json::nlohmann_json)
third_party_find(tl-expected)
add_library(third_party::expected ALIAS tl::expected)
third_party_find(zstd)
add_library(third_party::zstd ALIAS zstd::libzstd_static)

if(BUILD_TESTING AND NOT PYLAUNCH_FUZZ)
  third_party_find(GTest)
endif()
