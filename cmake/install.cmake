# `cmake --install`: the program with its man page and completions, the library with its headers and a
# CMake package (find_package(squish), target squish::squish); `cpack`: the same as a .deb.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS squish_app RUNTIME)
install(TARGETS squish EXPORT squish-targets ARCHIVE)
install(DIRECTORY squish DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h"
        PATTERN page EXCLUDE)
install(DIRECTORY ${PROJECT_BINARY_DIR}/generated/squish DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.h")

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/squish)
install(EXPORT squish-targets NAMESPACE squish:: DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/squish-config-version.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES cmake/squish-config.cmake ${PROJECT_BINARY_DIR}/squish-config-version.cmake
        DESTINATION ${package_dir})

# What the program says of itself, so that it is never old.
set(documents ${PROJECT_BINARY_DIR}/documents)
add_custom_command(
  OUTPUT ${documents}/squish.1 ${documents}/squish ${documents}/_squish
  COMMAND ${CMAKE_COMMAND} -E make_directory ${documents}
  COMMAND python3 ${PROJECT_SOURCE_DIR}/scripts/man_page.py $<TARGET_FILE:squish_app> > ${documents}/squish.1
  COMMAND squish_app completion bash > ${documents}/squish
  COMMAND squish_app completion zsh > ${documents}/_squish
  DEPENDS squish_app scripts/man_page.py VERBATIM)
add_custom_target(squish_documents ALL DEPENDS ${documents}/squish.1)
install(FILES ${documents}/squish.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${documents}/squish DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
# Debian's zsh looks here below /usr/local, and there below /usr.
install(FILES ${documents}/_squish DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
install(FILES ${documents}/_squish DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "squish")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Extreme compression of language model weights, compared and done")
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
# What the library's users need, its program's do not.
string(JOIN ", " CPACK_DEBIAN_PACKAGE_SUGGESTS libfmt-dev nlohmann-json3-dev libopenblas-dev liblapacke-dev
       libpcre2-dev libutf8proc-dev libssl-dev pkg-config)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
include(CPack)
