# A stand-in for Slicer's CMake package: the names that an extension's CMakeLists.txt uses, doing with files what Slicer's
# and CTK's macros do with them (copy to the build tree, install from there). Nothing is compiled and nothing is packaged.
get_filename_component(_fake_slicer_dir ${CMAKE_CURRENT_LIST_FILE} PATH)
set(Slicer_USE_FILE ${_fake_slicer_dir}/UseSlicer.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${_fake_slicer_dir}/WriteMetadata.cmake)
set(Slicer_EXTENSION_CPACK ${_fake_slicer_dir}/Nothing.cmake)
