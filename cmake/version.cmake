# squish/base/version.h is generated: version, commit and compiler go into every result file.
execute_process(COMMAND git -C ${PROJECT_SOURCE_DIR} rev-parse --short=12 HEAD
                OUTPUT_VARIABLE SQUISH_COMMIT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT SQUISH_COMMIT)
  set(SQUISH_COMMIT unknown)
endif()
configure_file(${PROJECT_SOURCE_DIR}/cmake/version.h.in
               ${PROJECT_BINARY_DIR}/generated/squish/base/version.h @ONLY)
target_include_directories(squish PUBLIC $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/generated>)
# Configure again when HEAD moves, so that the commit stays true.
if(EXISTS ${PROJECT_SOURCE_DIR}/.git/logs/HEAD)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
               ${PROJECT_SOURCE_DIR}/.git/logs/HEAD)
endif()
