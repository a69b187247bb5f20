// SPDX-License-Identifier: Apache-2.0
// The program rnbd-client: its verbs and its daemon, joined.
#include "cli/client_commands.h"

int main(int argc, char** argv) {
  return rnbd::cli::run_client(argc, argv, rnbd::client::run_daemon);
}
