// SPDX-License-Identifier: Apache-2.0
// The program rnbd-server: its verbs and its daemon, joined.
#include "cli/server_commands.h"

int main(int argc, char** argv) {
  return rnbd::cli::run_server(argc, argv, rnbd::server::run_daemon);
}
