set(Slicer_USE_PYTHONQT ON)
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR lib/Slicer-5.13/qt-scripted-modules)
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR ${Slicer_QTSCRIPTEDMODULES_LIB_DIR})
set(BUILD_TESTING ON)

macro(ctkMacroCompilePythonScript)
  cmake_parse_arguments(CTK "NO_INSTALL_SUBDIR;GLOBAL_TARGET" "TARGET_NAME;SOURCE_DIR;DESTINATION_DIR;INSTALL_DIR"
    "SCRIPTS;RESOURCES" ${ARGN})
  foreach(_needed TARGET_NAME SCRIPTS DESTINATION_DIR INSTALL_DIR)
    if("${CTK_${_needed}}" STREQUAL "")
      message(FATAL_ERROR "${_needed} is mandatory")
    endif()
  endforeach()
  if(CTK_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "unknown arguments: ${CTK_UNPARSED_ARGUMENTS}")
  endif()
  if("${CTK_SOURCE_DIR}" STREQUAL "")
    set(CTK_SOURCE_DIR ${CMAKE_CURRENT_SOURCE_DIR})
  endif()
  set(_copies)
  foreach(_file ${CTK_SCRIPTS} ${CTK_RESOURCES})
    add_custom_command(
      OUTPUT ${CTK_DESTINATION_DIR}/${_file}
      COMMAND ${CMAKE_COMMAND} -E copy ${CTK_SOURCE_DIR}/${_file} ${CTK_DESTINATION_DIR}/${_file}
      DEPENDS ${CTK_SOURCE_DIR}/${_file}
      )
    list(APPEND _copies ${CTK_DESTINATION_DIR}/${_file})
  endforeach()
  add_custom_target(Copy${CTK_TARGET_NAME}PythonFiles ALL DEPENDS ${_copies})
  install(DIRECTORY "${CTK_DESTINATION_DIR}/" DESTINATION "${CTK_INSTALL_DIR}" COMPONENT RuntimeLibraries)
endmacro()

macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MODULE "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(MODULE_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "unknown arguments: ${MODULE_UNPARSED_ARGUMENTS}")
  endif()
  foreach(_file ${MODULE_SCRIPTS} ${MODULE_RESOURCES})
    if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${_file})
      message(FATAL_ERROR "nonexistent file: ${_file}")
    endif()
  endforeach()
  ctkMacroCompilePythonScript(
    TARGET_NAME ${MODULE_NAME}
    SCRIPTS "${MODULE_SCRIPTS}"
    RESOURCES "${MODULE_RESOURCES}"
    DESTINATION_DIR ${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}
    INSTALL_DIR ${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}
    NO_INSTALL_SUBDIR
    )
endmacro()

macro(slicer_add_python_unittest)
  cmake_parse_arguments(TEST "" "TESTNAME_PREFIX;SCRIPT" "SLICER_ARGS" ${ARGN})
  if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${TEST_SCRIPT})
    message(FATAL_ERROR "nonexistent test: ${TEST_SCRIPT}")
  endif()
  file(APPEND ${CMAKE_BINARY_DIR}/unittests.txt "${TEST_TESTNAME_PREFIX}${TEST_SCRIPT}\n")
endmacro()
