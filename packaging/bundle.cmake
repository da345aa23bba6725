# What a wheel holds besides our own libraries (CMakeLists.txt, SKBUILD): the shared libraries that libvcllm_pack needs
# beyond libc, beside it, where its run path $ORIGIN finds them, and the licences of all that is inside.
#
# In: METADATA_DIR, the wheel's .dist-info, and XXHASH_HEADER, which is compiled into libvcllm.  CMake's own
# RUNTIME_DEPENDENCIES would install each library twice, for a wheel has no symbolic links.

file(GET_RUNTIME_DEPENDENCIES LIBRARIES ${CMAKE_INSTALL_PREFIX}/vcllm/libvcllm_pack.so
     RESOLVED_DEPENDENCIES_VAR libraries PRE_EXCLUDE_REGEXES "^ld-linux" "^lib(c|m|vcllm)\\.")
set(sources ${XXHASH_HEADER})
foreach(library ${libraries})
    get_filename_component(name ${library} NAME)
    file(COPY_FILE ${library} ${CMAKE_INSTALL_PREFIX}/vcllm/${name}) # of a link what it leads to
    file(REAL_PATH ${library} library)
    list(APPEND sources ${library})
endforeach()

# On Debian the package that a file is from has its licence.
find_program(DPKG_QUERY dpkg-query)
foreach(source ${sources})
    set(package)
    if(DPKG_QUERY)
        execute_process(COMMAND ${DPKG_QUERY} -S ${source} OUTPUT_VARIABLE package ERROR_QUIET)
        string(REGEX REPLACE "[:,].*" "" package "${package}")
    endif()
    if(EXISTS /usr/share/doc/${package}/copyright)
        file(MAKE_DIRECTORY ${METADATA_DIR}/licenses)
        file(COPY_FILE /usr/share/doc/${package}/copyright ${METADATA_DIR}/licenses/${package})
    else()
        message(WARNING "the wheel lacks the licence of ${source}: add it before you pass the wheel on")
    endif()
endforeach()
