# squish/base/version.h is generated: version, commit and compiler go into every result file.
set(SQUISH_VERSION_H ${PROJECT_BINARY_DIR}/generated/squish/base/version.h)
set(write_version ${CMAKE_COMMAND} -DSOURCE=${PROJECT_SOURCE_DIR} -DTEMPLATE=${PROJECT_SOURCE_DIR}/cmake/version.h.in
    -DOUTPUT=${SQUISH_VERSION_H} -DPROJECT_VERSION=${PROJECT_VERSION}
    "-DCOMPILER=${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}"
    -P ${PROJECT_SOURCE_DIR}/cmake/write_version.cmake)
if(NOT EXISTS ${SQUISH_VERSION_H})  # later by builds alone: ninja overlooks what others change
  execute_process(COMMAND ${write_version} COMMAND_ERROR_IS_FATAL ANY)
endif()
add_custom_target(squish_version COMMAND ${write_version} BYPRODUCTS ${SQUISH_VERSION_H} VERBATIM)
add_dependencies(squish squish_version)
target_include_directories(squish PUBLIC $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/generated>)
