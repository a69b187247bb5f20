// SPDX-License-Identifier: Apache-2.0
// Writing man(7): the few macros that our pages use, and text that cannot be taken for one. Pure.
#pragma once

#include <string>
#include <string_view>

#include <fmt/format.h>

namespace rnbd::cli {

/// `text` as it shall appear, on lines of its own.
inline std::string roff(std::string_view text) {
  std::string out;
  bool begins_line = true;
  for (const char c : text) {
    if (begins_line && (c == '.' || c == '\'')) out += "\\&";
    begins_line = c == '\n';
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
  }
  return out;
}

/// As an argument of a macro: one word, whatever is in it.
inline std::string roff_word(std::string_view text) {
  std::string out = "\"";
  for (const char c : roff(text)) out += c == '"' ? std::string("\\(dq") : std::string(1, c);
  return out + '"';
}

class Page {
 public:
  Page(std::string_view name, int section, std::string_view version, std::string_view help)
      : text_(fmt::format(".\\\" Made by the build, of what the programs understand.\n"
                          ".TH {} {} \"\" \"rnbd {}\" \"rnbd for userspace\"\n"
                          ".nh\n.ad l\n.SH NAME\n{} \\- {}\n",
                          roff_word(name), section, version, roff(name), roff(help))) {}

  void section(std::string_view title) { text_ += fmt::format(".SH {}\n", roff_word(title)); }
  void subsection(std::string_view title) { text_ += fmt::format(".SS {}\n", roff_word(title)); }
  void paragraph(std::string_view text) { text_ += fmt::format(".PP\n{}\n", roff(text)); }

  /// What is typed, bold, with what stands for something else behind it; and what it means.
  void item(std::string_view typed, std::string_view value, std::string_view help) {
    text_ += fmt::format(".TP\n\\fB{}\\fR", roff(typed));
    if (!value.empty()) text_ += fmt::format("\\fI{}\\fR", roff(value));
    text_ += fmt::format("\n{}\n", roff(help));
  }

  /// Lines that stay as they are.
  void lines(std::string_view text) {
    text_ += fmt::format(".PP\n.RS 4\n.nf\n{}\n.fi\n.RE\n", roff(text));
  }

  /// Is man(7) already.
  void raw(std::string_view text) { text_ += text; }

  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace rnbd::cli
