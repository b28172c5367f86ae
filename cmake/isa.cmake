# squish_add_isa_sources(TARGET FILES...): compiles each file once per instruction set with
# SQUISH_ISA_NAMESPACE set to the set's name, each object with its own flags. SQUISH_ISA_<set> is
# defined for that set; avx512vbmi, which only kernels are compiled for, has that of avx512 as well.
# panel.isa.cc is for avx512bf16 and amx alone, and nothing else is.
set(SQUISH_ISA_scalar_FLAGS "")
set(SQUISH_ISA_avx2_FLAGS -mavx2 -mfma -mf16c -mbmi2)
set(SQUISH_ISA_avx512_FLAGS -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mfma -mf16c
                            -mbmi2 -mprefer-vector-width=512
                            # GCC's own headers read what they leave undefined.
                            -Wno-uninitialized $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
set(SQUISH_ISA_avx512vbmi_FLAGS ${SQUISH_ISA_avx512_FLAGS} -mavx512vbmi -mgfni -DSQUISH_ISA_avx512)
set(SQUISH_ISA_avx512bf16_FLAGS ${SQUISH_ISA_avx512vbmi_FLAGS} -mavx512bf16)
set(SQUISH_ISA_amx_FLAGS ${SQUISH_ISA_avx512bf16_FLAGS} -mamx-tile -mamx-bf16)

function(squish_add_isa_sources target)
  # The loops want fused multiply-add where the set has it. Options of a source come after those of
  # its target and of squish_flags, which forbid it.
  set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS -ffp-contract=fast)
  foreach(isa scalar avx2 avx512 avx512vbmi avx512bf16 amx)
    set(library ${target}_${isa})
    set(files ${ARGN})
    if(isa MATCHES "avx512bf16|amx")
      list(FILTER files INCLUDE REGEX "/panel.isa.cc")
    else()
      list(FILTER files EXCLUDE REGEX "/panel.isa.cc")
    endif()
    if(isa STREQUAL avx512vbmi)
      list(FILTER files INCLUDE REGEX "/squish/kernels/")
    endif()
    add_library(${library} OBJECT ${files})
    target_compile_definitions(${library} PRIVATE SQUISH_ISA_NAMESPACE=${isa} SQUISH_ISA_${isa})
    target_compile_options(${library} PRIVATE ${SQUISH_ISA_${isa}_FLAGS} -O3 -fopenmp-simd
                           -fno-signed-zeros -fno-trapping-math)
    target_include_directories(${library} PRIVATE ${PROJECT_SOURCE_DIR})
    target_link_libraries(${library} PRIVATE squish_flags)
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:${library}>)
  endforeach()
endfunction()
