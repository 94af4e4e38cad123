# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Finds libzmq's C interface: target LibZMQ::LibZMQ. The distributions disagree on whether they ship libzmq's own CMake
# package and under which target name, so header and library are looked for directly. Also installed with ppx.
find_path(LibZMQ_INCLUDE_DIR zmq.h)
find_library(LibZMQ_LIBRARY NAMES zmq)
if(LibZMQ_INCLUDE_DIR AND EXISTS "${LibZMQ_INCLUDE_DIR}/zmq.h")
  file(STRINGS "${LibZMQ_INCLUDE_DIR}/zmq.h" LibZMQ_lines REGEX "#define ZMQ_VERSION_(MAJOR|MINOR|PATCH) ")
  string(REGEX REPLACE "[^0-9]*([0-9]+)[^0-9]*([0-9]+)[^0-9]*([0-9]+).*" "\\1.\\2.\\3" LibZMQ_VERSION
    "${LibZMQ_lines}")
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibZMQ
  REQUIRED_VARS LibZMQ_LIBRARY LibZMQ_INCLUDE_DIR
  VERSION_VAR LibZMQ_VERSION
  REASON_FAILURE_MESSAGE
    "ZeroMQ is missing: apt-get install libzmq3-dev, or conda install zeromq, or set CMAKE_PREFIX_PATH")
if(LibZMQ_FOUND AND NOT TARGET LibZMQ::LibZMQ)
  add_library(LibZMQ::LibZMQ UNKNOWN IMPORTED)
  set_target_properties(LibZMQ::LibZMQ PROPERTIES
    IMPORTED_LOCATION "${LibZMQ_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${LibZMQ_INCLUDE_DIR}")
endif()
mark_as_advanced(LibZMQ_INCLUDE_DIR LibZMQ_LIBRARY)
