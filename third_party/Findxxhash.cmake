# third_party::xxhash: the header alone, which holds all of it (XXH_INLINE_ALL).
pkg_check_modules(xxhash QUIET libxxhash)
if(xxhash_FOUND)
  add_library(third_party::xxhash INTERFACE IMPORTED)
  target_include_directories(third_party::xxhash INTERFACE ${xxhash_INCLUDE_DIRS})
endif()
