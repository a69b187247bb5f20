# SPDX-License-Identifier: Apache-2.0
# Debian packages rnbd-client and rnbd-server, by CPack from a build tree: scripts/package.sh.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME rnbd)
set(CPACK_PACKAGE_VENDOR "rnbd for userspace")
set(CPACK_PACKAGE_CONTACT "rnbd for userspace maintainers <maintainers@rnbd.example>")
set(CPACK_VERBATIM_VARIABLES ON)
# Whatever the prefix of the tree is; and with it /etc goes where it belongs.
set(CPACK_SET_DESTDIR ON)
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_OUTPUT_FILE_PREFIX ${CMAKE_BINARY_DIR}/packages)

set(CPACK_COMPONENTS_ALL client server)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_ENABLE_COMPONENT_DEPENDS OFF)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)

set(PACKAGING ${PROJECT_SOURCE_DIR}/packaging)
set(CPACK_DEBIAN_CLIENT_PACKAGE_NAME rnbd-client)
set(CPACK_DEBIAN_CLIENT_PACKAGE_DEPENDS "ibverbs-providers, kmod, systemd | systemd-standalone-sysusers | systemd-sysusers")
set(CPACK_DEBIAN_CLIENT_PACKAGE_RECOMMENDS "rdma-core, udev")
set(CPACK_DEBIAN_CLIENT_PACKAGE_CONTROL_EXTRA
    ${PACKAGING}/client/postinst ${PACKAGING}/client/prerm ${PACKAGING}/client/postrm
    ${PACKAGING}/client/conffiles)
set(CPACK_COMPONENT_CLIENT_DESCRIPTION
"block devices of RNBD servers as /dev/nbdX over RDMA
Maps disks of other hosts, which rnbd-server or the kernel's rnbd_server
exports, as ordinary block devices: partitions, file systems, LVM. The kernel
needs its nbd driver and an RDMA device for that, and no module besides. A
session may have several paths; a daemon that is replaced loses no request.")

set(CPACK_DEBIAN_SERVER_PACKAGE_NAME rnbd-server)
set(CPACK_DEBIAN_SERVER_PACKAGE_DEPENDS "ibverbs-providers, kmod, systemd | systemd-standalone-sysusers | systemd-sysusers")
set(CPACK_DEBIAN_SERVER_PACKAGE_RECOMMENDS rdma-core)
set(CPACK_DEBIAN_SERVER_PACKAGE_CONTROL_EXTRA
    ${PACKAGING}/server/postinst ${PACKAGING}/server/prerm ${PACKAGING}/server/postrm
    ${PACKAGING}/server/conffiles)
set(CPACK_COMPONENT_SERVER_DESCRIPTION
"exports block devices over RDMA, as RNBD
Exports block devices and files of this host to rnbd-client and to hosts with
the kernel's rnbd_client. Speaks the kernel's RTRS and RNBD protocols over
verbs, and executes the I/O with io_uring.")

# Each package's changelog and licence.
set(PACKED_CHANGELOG ${CMAKE_BINARY_DIR}/share/changelog.gz)
add_custom_command(
  OUTPUT ${PACKED_CHANGELOG}
  COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/share
  COMMAND gzip -9nc ${PACKAGING}/changelog > ${PACKED_CHANGELOG}
  DEPENDS ${PACKAGING}/changelog)
add_custom_target(changelog ALL DEPENDS ${PACKED_CHANGELOG})
foreach(side client server)
  install(FILES ${PACKED_CHANGELOG} ${PACKAGING}/copyright DESTINATION share/doc/rnbd-${side} COMPONENT ${side})
endforeach()

include(CPack)
