# cmake -DSOURCE=... -DTEMPLATE=... -DOUTPUT=... -DPROJECT_VERSION=... ... -P write_version.cmake, at every build: the commit; where
# the sources of program or library differ from it, "-dirty-" and a digest of how, so that jobs of two edits are not taken for one.
execute_process(COMMAND git -C ${SOURCE} rev-parse --short=12 HEAD
                OUTPUT_VARIABLE SQUISH_COMMIT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(SQUISH_COMMIT)
  execute_process(COMMAND sh -c "git diff HEAD -- squish apps; git ls-files -oz --exclude-standard -- squish apps | xargs -0r cat"
                  WORKING_DIRECTORY ${SOURCE} OUTPUT_VARIABLE changes)
  if(changes)
    string(SHA256 digest "${changes}")
    string(SUBSTRING ${digest} 0 12 digest)
    string(APPEND SQUISH_COMMIT "-dirty-${digest}")
  endif()
else()
  set(SQUISH_COMMIT unknown)
endif()
configure_file(${TEMPLATE} ${OUTPUT} @ONLY)  # touched only if it differs
