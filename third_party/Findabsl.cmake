# third_party::absl: Abseil's status and strings as static archives, by pkg-config, for Debian's CMake package names shared
# libraries. What is linked with them cannot be position independent: they are not.
pkg_check_modules(absl QUIET absl_status absl_statusor absl_strings)
set(absl_VERSION "${absl_absl_status_VERSION}")
if(absl_FOUND)
  list(TRANSFORM absl_LDFLAGS REPLACE "^-l(absl_.+)" "-l:lib\\1.a")
  add_library(third_party::absl INTERFACE IMPORTED)
  target_include_directories(third_party::absl INTERFACE ${absl_INCLUDE_DIRS})
  target_link_libraries(third_party::absl INTERFACE ${absl_LDFLAGS})
  target_link_options(third_party::absl INTERFACE -no-pie)
endif()
