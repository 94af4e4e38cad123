# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Generates ppx_generated.h from the schema with the flatc that belongs to the flatbuffers headers found; target
# ppx_schema carries the include paths. The schema's namespace `ppx` is the public API's here, so the generated code
# goes to `ppx::wire`: the namespace is not on the wire.
find_program(FLATC_EXECUTABLE flatc)
if(NOT FLATC_EXECUTABLE)
  message(FATAL_ERROR "flatc is missing: apt-get install flatbuffers-compiler libflatbuffers-dev, "
    "or conda install flatbuffers, or set FLATC_EXECUTABLE")
endif()
get_filename_component(ppx_flatc_dir "${FLATC_EXECUTABLE}" DIRECTORY)
find_path(FLATBUFFERS_INCLUDE_DIR flatbuffers/flatbuffers.h HINTS "${ppx_flatc_dir}/../include")
if(NOT FLATBUFFERS_INCLUDE_DIR)
  message(FATAL_ERROR "flatbuffers/flatbuffers.h is missing: apt-get install libflatbuffers-dev, "
    "or conda install flatbuffers, or set FLATBUFFERS_INCLUDE_DIR")
endif()

set(PPX_SCHEMA "${CMAKE_CURRENT_SOURCE_DIR}/../../resources/ppx/ppx.fbs" CACHE FILEPATH "The PPX schema")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${PPX_SCHEMA}")
file(READ "${PPX_SCHEMA}" ppx_schema_text)
string(REPLACE "namespace ppx;" "namespace ppx.wire;" ppx_schema_text "${ppx_schema_text}")
if(NOT ppx_schema_text MATCHES "namespace ppx\\.wire;")
  message(FATAL_ERROR "${PPX_SCHEMA}: expected the line `namespace ppx;`")
endif()
set(ppx_generated_dir "${CMAKE_CURRENT_BINARY_DIR}/generated")
file(CONFIGURE OUTPUT "${ppx_generated_dir}/ppx.fbs" CONTENT "${ppx_schema_text}" @ONLY)

add_custom_command(
  OUTPUT "${ppx_generated_dir}/ppx_generated.h"
  COMMAND "${FLATC_EXECUTABLE}" --cpp -o "${ppx_generated_dir}" "${ppx_generated_dir}/ppx.fbs"
  DEPENDS "${ppx_generated_dir}/ppx.fbs" "${FLATC_EXECUTABLE}"
  COMMENT "Generating ppx_generated.h"
  VERBATIM)
add_custom_target(ppx_generate DEPENDS "${ppx_generated_dir}/ppx_generated.h")
add_library(ppx_schema INTERFACE)
add_dependencies(ppx_schema ppx_generate)
target_include_directories(ppx_schema SYSTEM INTERFACE "${ppx_generated_dir}" "${FLATBUFFERS_INCLUDE_DIR}")
