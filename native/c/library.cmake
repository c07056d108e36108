# libsecateur: the core and a reader of files behind a C interface, for programs without Python.
#   cmake -S . -B build/c -DSECATEUR_PYTHON=OFF && cmake --build build/c && cmake --install build/c --prefix …
# and then, in another project: find_package(secateur) and target_link_libraries(… secateur::secateur).
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

# In a library of its own, for programs that are linked with all of it.
add_library(secateur_interface STATIC EXCLUDE_FROM_ALL native/c/secateur.cpp)
target_include_directories(secateur_interface PRIVATE native/src PUBLIC native/c)
target_compile_definitions(secateur_interface PRIVATE "SECATEUR_VERSION=\"${PROJECT_VERSION}\""
  PUBLIC $<BUILD_INTERFACE:SECATEUR_STATIC>)
target_compile_options(secateur_interface PRIVATE ${SECATEUR_WARNINGS})
target_link_libraries(secateur_interface PUBLIC secateur_reader)

add_library(secateur SHARED native/c/secateur.cpp)
add_library(secateur::secateur ALIAS secateur)
target_include_directories(secateur PRIVATE native/src
  PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/native/c> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_definitions(secateur PRIVATE SECATEUR_BUILDING "SECATEUR_VERSION=\"${PROJECT_VERSION}\"")
target_compile_options(secateur PRIVATE ${SECATEUR_WARNINGS})
target_link_libraries(secateur PRIVATE secateur_reader)
set_target_properties(secateur PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}
  PUBLIC_HEADER native/c/secateur.h)
secateur_hide(secateur)

# The example is what docs/c.md shows, and a test runs it.
if(SECATEUR_EXAMPLES)
  enable_language(C)
  add_executable(classify native/c/example/classify.c)
  target_link_libraries(classify PRIVATE secateur::secateur)
endif()

if(NOT SKBUILD)
  set(SECATEUR_PACKAGE ${CMAKE_INSTALL_LIBDIR}/cmake/secateur)
  install(TARGETS secateur EXPORT secateur RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} PUBLIC_HEADER DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(EXPORT secateur FILE secateur-config.cmake NAMESPACE secateur:: DESTINATION ${SECATEUR_PACKAGE})
  write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/secateur-config-version.cmake COMPATIBILITY SameMajorVersion)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/secateur-config-version.cmake DESTINATION ${SECATEUR_PACKAGE})
endif()
