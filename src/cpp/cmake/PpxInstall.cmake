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

# A static ppx makes its users link ZeroMQ, a shared one does it itself.
get_target_property(ppx_type ppx TYPE)
if(ppx_type STREQUAL "STATIC_LIBRARY")
  set(ppx_pkgconfig_requires "Requires: libzmq")
else()
  set(ppx_pkgconfig_requires "Requires.private: libzmq")
endif()
configure_file(cmake/ppx.pc.in ppx.pc @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/ppx.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
