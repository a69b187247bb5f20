// SPDX-License-Identifier: Apache-2.0
// A line on the terminal that says that something lasts, and why; it goes away when it is over.
// Nothing where stderr is no terminal, or nobody has anything to say.
#pragma once

#include <chrono>
#include <functional>
#include <string>

namespace rnbd::cli {

class Progress {
 public:
  /// `why`: asked each time; what it says may be empty. Outlives this.
  Progress(std::string program, std::string verb, const std::function<std::string()>& why);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void show();

 private:
  const std::string program_;
  const std::string verb_;
  const std::function<std::string()>& why_;
  const std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
  bool shown_ = false;
};

}  // namespace rnbd::cli
