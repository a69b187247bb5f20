# SPDX-License-Identifier: Apache-2.0
# Every library we stand on, all packaged by Debian 12. scripts/install-deps.sh installs them.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(spdlog REQUIRED)
find_package(fmt REQUIRED)
find_package(CLI11 REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(tomlplusplus REQUIRED)
find_package(Boost 1.81 REQUIRED) # headers only: Asio, Beast
pkg_check_modules(VERBS REQUIRED IMPORTED_TARGET libibverbs librdmacm)
pkg_check_modules(NETLINK REQUIRED IMPORTED_TARGET libnl-3.0 libnl-genl-3.0)
pkg_check_modules(PROMETHEUS REQUIRED IMPORTED_TARGET prometheus-cpp-core)
pkg_check_modules(URING REQUIRED IMPORTED_TARGET liburing)

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()
