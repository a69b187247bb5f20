// SPDX-License-Identifier: Apache-2.0
// Run by the build: writes manual pages and completions into the directory it is told, by the names
// under which they are installed.
#include <cstdio>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "cli/client_commands.h"
#include "cli/completion.h"
#include "cli/manual.h"
#include "cli/server_commands.h"

int main(int argc, char** argv) {
  using namespace rnbd::cli;
  if (argc != 2) {
    std::fputs("usage: rnbd_reference DIRECTORY\n", stderr);
    return 2;
  }
  const ProgramReference client = client_reference();
  const ProgramReference server = server_reference();
  const std::vector<std::pair<std::string, std::string>> files = {
      {"rnbd-client.8", command_manual(client, RNBD_VERSION)},
      {"rnbd-server.8", command_manual(server, RNBD_VERSION)},
      {"rnbd-client.toml.5", config_manual(client, RNBD_VERSION)},
      {"rnbd-server.toml.5", config_manual(server, RNBD_VERSION)},
      {"rnbd-mapping.7", mapping_manual(RNBD_VERSION)},
      {"rnbdtab.5", tab_manual(RNBD_VERSION)},
      {"rnbd-client.bash", bash_completion(client)},
      {"rnbd-server.bash", bash_completion(server)},
      {"_rnbd-client", zsh_completion(client)},
      {"_rnbd-server", zsh_completion(server)},
  };
  for (const auto& [name, text] : files) {
    std::ofstream file(std::string(argv[1]) + '/' + name);
    if (!(file << text).flush()) {
      std::fprintf(stderr, "cannot write %s/%s\n", argv[1], name.c_str());
      return 1;
    }
  }
  return 0;
}
