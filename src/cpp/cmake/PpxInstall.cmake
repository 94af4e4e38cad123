# SPDX-FileCopyrightText: 2026 The etalumis authors
# SPDX-License-Identifier: BSD-3-Clause
#
# Installs the library, its one header, a CMake package (find_package(ppx) gives ppx::ppx) and a pkg-config file.
include(CMakePackageConfigHelpers)
set(ppx_package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/ppx")

install(TARGETS ppx EXPORT ppxTargets
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
install(FILES include/ppx/ppx.hpp DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/ppx")
install(EXPORT ppxTargets NAMESPACE ppx:: DESTINATION "${ppx_package_dir}")

configure_package_config_file(cmake/ppxConfig.cmake.in ppxConfig.cmake INSTALL_DESTINATION "${ppx_package_dir}")
write_basic_package_version_file(ppxConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES
  "${CMAKE_CURRENT_BINARY_DIR}/ppxConfig.cmake"
  "${CMAKE_CURRENT_BINARY_DIR}/ppxConfigVersion.cmake"
  cmake/FindLibZMQ.cmake
  DESTINATION "${ppx_package_dir}")

# The pkg-config file finds its prefix from where it lies: the installation may be moved. How many folders up that is
# depends on the library folder (lib, lib64, lib/x86_64-linux-gnu). Absolute folders stay absolute: they do not move.
set(ppx_pkgconfig_dir "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
if(IS_ABSOLUTE "${ppx_pkgconfig_dir}")
  set(ppx_pkgconfig_prefix "${CMAKE_INSTALL_PREFIX}")
else()
  file(RELATIVE_PATH ppx_up "/${ppx_pkgconfig_dir}" "/")
  string(REGEX REPLACE "/$" "" ppx_up "${ppx_up}")
  set(ppx_pkgconfig_prefix "\${pcfiledir}/${ppx_up}")
endif()
foreach(folder LIBDIR INCLUDEDIR)
  set(ppx_pkgconfig_${folder} "${CMAKE_INSTALL_${folder}}")
  if(NOT IS_ABSOLUTE "${CMAKE_INSTALL_${folder}}")
    string(PREPEND ppx_pkgconfig_${folder} "\${prefix}/")
  endif()
endforeach()
# A static ppx makes its users link ZeroMQ, a shared one does it itself.
get_target_property(ppx_type ppx TYPE)
if(ppx_type STREQUAL "STATIC_LIBRARY")
  set(ppx_pkgconfig_requires "Requires: libzmq")
else()
  set(ppx_pkgconfig_requires "Requires.private: libzmq")
endif()
string(JOIN " -l" ppx_pkgconfig_dl "" ${CMAKE_DL_LIBS})
configure_file(cmake/ppx.pc.in ppx.pc @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/ppx.pc" DESTINATION "${ppx_pkgconfig_dir}")
