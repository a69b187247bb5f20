// SPDX-License-Identifier: Apache-2.0
// The addresses and address pairs of the mapping words (map_words.h). Pure; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "client/map_words.h"
#include "common/result.h"

namespace rnbd::client {

/// One address in its one spelling (PathSpec). EINVAL says what is wrong with it.
Result<std::string> parse_address(std::string_view text);

/// The value of one path= word: "dst", "src@dst", the kernel's "src,dst", or a list
/// "src@dst,src@dst". A comma separates paths only where each has its '@'. EINVAL.
Result<std::vector<PathSpec>> parse_paths(std::string_view text);

}  // namespace rnbd::client
