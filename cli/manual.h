// SPDX-License-Identifier: Apache-2.0
// The manual pages, as man(7) text. Pure. Names of commands, options and words come from the
// definitions by which they are understood; what is around them is written in manual.cc.
#pragma once

#include <string>
#include <string_view>

#include "cli/reference.h"

namespace rnbd::cli {

/// rnbd-client(8), rnbd-server(8): `program`'s own page.
std::string command_manual(const ProgramReference& program, std::string_view version);

/// rnbd-server.toml(5), rnbd-client.toml(5): their keys are the options of the verb daemon; the
/// client's has words of `map` too.
std::string config_manual(const ProgramReference& program, std::string_view version);

/// rnbd-mapping(7): the words of `map`.
std::string mapping_manual(std::string_view version);

/// rnbdtab(5): what is mapped at boot.
std::string tab_manual(std::string_view version);

}  // namespace rnbd::cli
