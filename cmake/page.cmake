# squish/report/page/ as text in squish/report/page_assets.h, which is generated.
foreach(part html css js)
  set(file ${PROJECT_SOURCE_DIR}/squish/report/page/page.${part})
  file(READ ${file} SQUISH_PAGE_${part})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
endforeach()
configure_file(${PROJECT_SOURCE_DIR}/cmake/page_assets.h.in
               ${PROJECT_BINARY_DIR}/generated/squish/report/page_assets.h @ONLY)
