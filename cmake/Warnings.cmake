# SPDX-License-Identifier: Apache-2.0
# One place for compiler flags: warnings are errors, sanitizers come from the preset.
add_compile_options(-Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Wcast-align
                    -Woverloaded-virtual -Wconversion -Wsign-conversion -Wswitch-enum -Wformat=2
                    -Wimplicit-fallthrough -Wno-missing-field-initializers -Werror)

# Symbols are looked up when a program starts, not in the middle of an I/O.
add_link_options(-Wl,-z,now)

# What sources that are joined keep to themselves looks to g++ like a header's.
if(CMAKE_UNITY_BUILD AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  add_compile_options(-Wno-subobject-linkage)
endif()

set(RNBD_SANITIZE "" CACHE STRING "Sanitizers to build with, as for -fsanitize=")
set(RNBD_SANITIZED_LEVEL "1" CACHE STRING "Optimization of what is built with sanitizers: 0 compiles three times as fast")
if(RNBD_SANITIZE)
  # Instrumented code takes twice as long to compile with more; a report needs lines only. The presets take clang, which
  # needs half of the time of g++ for it, and join sources, which halves it again.
  add_compile_options(-O${RNBD_SANITIZED_LEVEL} -g1 -fsanitize=${RNBD_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${RNBD_SANITIZE})
  add_compile_definitions(RNBD_SANITIZED=1)
  if(RNBD_SANITIZE MATCHES "undefined")
    add_compile_options(-fno-sanitize-recover=undefined)
  endif()
  if(RNBD_SANITIZE MATCHES "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # Asio has fences, which ThreadSanitizer does not see and g++ warns of.
    add_compile_options(-Wno-tsan)
  endif()
endif()

# What no I/O passes through, and is most of the code: with sanitizers it is not optimized, which takes the compiler a
# third of the time. What headers bring to both sides then comes from either, so measure no sanitized build.
function(rnbd_off_the_data_path)
  if(RNBD_SANITIZE)
    foreach(target ${ARGN})
      target_compile_options(${target} PRIVATE -O0)
    endforeach()
  endif()
endfunction()
