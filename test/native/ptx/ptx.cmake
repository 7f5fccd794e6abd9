# nvcc's PTX as C++ for native/emulation.

find_program(RLVR_NODE node)

# What becomes of PTX: a source for targets that link the emulation.
function(rlvr_translate_ptx ptx translated)
  if(NOT RLVR_NODE)
    message(FATAL_ERROR "no node on PATH, which translates PTX")
  endif()
  set(folder "${PROJECT_SOURCE_DIR}/test/native/ptx")
  get_filename_component(name "${ptx}" NAME_WE)
  set(source "${CMAKE_CURRENT_BINARY_DIR}/ptx/${name}_ptx.cpp")
  file(GLOB translator CONFIGURE_DEPENDS "${folder}/*.mjs")
  add_custom_command(
    OUTPUT "${source}"
    COMMAND ${CMAKE_COMMAND} -E make_directory "${CMAKE_CURRENT_BINARY_DIR}/ptx"
    COMMAND "${RLVR_NODE}" "${folder}/translate.mjs" "${ptx}" "${source}"
    DEPENDS "${ptx}" ${translator}
    VERBATIM)
  # Large functions of simple statements: they compile in seconds without sanitizers, in minutes with them. What the
  # sanitizers would look for is defined in PTX, or checked by the functions that the translation calls.
  set_source_files_properties("${source}" PROPERTIES COMPILE_OPTIONS "-O1;-fno-sanitize=all;-fno-strict-aliasing"
                                                     INCLUDE_DIRECTORIES "${PROJECT_SOURCE_DIR}/test/native")
  set(${translated} "${source}" PARENT_SCOPE)
endfunction()

# The PTX of a CUDA source.
function(rlvr_compile_to_ptx cuda ptx)
  find_program(RLVR_NVCC nvcc)
  if(NOT RLVR_NVCC)
    message(FATAL_ERROR "RLVR_PTX: no nvcc on PATH")
  endif()
  get_filename_component(name "${cuda}" NAME_WE)
  set(output "${CMAKE_CURRENT_BINARY_DIR}/ptx/${name}.ptx")
  file(GLOB headers CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/native/cuda/*.h" "${PROJECT_SOURCE_DIR}/native/ops/*.h")
  add_custom_command(
    OUTPUT "${output}"
    COMMAND ${CMAKE_COMMAND} -E make_directory "${CMAKE_CURRENT_BINARY_DIR}/ptx"
    COMMAND "${RLVR_NVCC}" -std=c++20 -O3 -arch=compute_${RLVR_PTX_ARCH} -ptx "-I${PROJECT_SOURCE_DIR}/native" "${cuda}"
            -o "${output}"
    DEPENDS "${cuda}" ${headers}
    VERBATIM)
  set(${ptx} "${output}" PARENT_SCOPE)
endfunction()
