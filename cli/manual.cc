// SPDX-License-Identifier: Apache-2.0
#include "cli/manual.h"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/map_help.h"
#include "cli/roff.h"
#include "client/map_defaults.h"
#include "common/control/sockets.h"

namespace rnbd::cli {
namespace {

constexpr const char* kClientText =
    "The daemon makes block devices /dev/nbdX of disks that RNBD servers export over RDMA, "
    "rnbd-server(8) or the kernel's own. It ends the RDMA sessions and feeds the kernel's nbd "
    "driver. systemd runs it as rnbd-client.service; the other commands ask it for something. "
    "A daemon that is killed or replaced loses no request: systemd, or --supervise, keeps what the "
    "next one needs. Stopping it unmaps everything.";

constexpr const char* kServerText =
    "The daemon exports block devices and files of this host over RDMA, to rnbd-client(8) and to "
    "the kernel's own client. systemd runs it as rnbd-server.service, with /etc/rnbd/server.toml "
    "as its configuration; see rnbd-server.toml(5). RNBD knows no authentication: whoever reaches "
    "the port may open what lies below dev_search_path.";

constexpr const char* kLinksText =
    "udev's rules that come with it make links that stay the same: /dev/rnbd/SESSION/DEVICE and "
    "/dev/disk/by-id/rnbd-SESSION:DEVICE, where each slash of the device's name is a colon; with "
    "-partN for partitions. Bytes other than letters, digits and #+-.:=@_ appear as \\xHH. In "
    "fstab(5) file systems on them need the option _netdev: it makes systemd unmount them before "
    "the client and the network stop.";

constexpr const char* kErrorText =
    "An error is one line on stderr: program, command, the name of the errno, and what happened; a "
    "second line says what can be done. With --json it is on stdout too. Stdout holds results and "
    "nothing else.";

constexpr const char* kExportText =
    "A disk with a name of its own: name, what clients say as device_path; path, where it is, "
    "below "
    "dev_search_path or not; and access, \"rw\" [\"rw\"] or \"ro\". Names are looked up before "
    "dev_search_path. One of a later file replaces one with the same name. Behind all other keys.";

bool is_client(const ProgramReference& program) { return program.name == "rnbd-client"; }

void add_option(Page& page, const OptionReference& option) {
  page.item(fmt::format("{}", fmt::join(option.names, ", ")),
            option.value.empty() ? "" : ' ' + option.value, option.help);
}

std::string with_small_letter(std::string text) {
  if (!text.empty()) text[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(text[0])));
  return text;
}

std::string synopsis_of(const ProgramReference& program, const VerbReference& verb) {
  std::string rest;
  for (const WordReference& word : verb.words) {
    rest += fmt::format(" {}{}", word.value, word.many ? "…" : "");
  }
  if (!verb.options.empty()) rest += " [OPTION]…";
  return fmt::format(".BR {} {}\n.br\n", roff_word(program.name + ' ' + verb.name),
                     roff_word(rest));
}

void add_verb(Page& page, const VerbReference& verb) {
  std::string title = verb.name;
  for (const WordReference& word : verb.words) title += fmt::format(" {}", word.value);
  page.subsection(title);
  page.paragraph(verb.help + '.');
  for (const WordReference& word : verb.words) page.item("", word.value, word.help);
  for (const OptionReference& option : verb.options) add_option(page, option);
  if (!verb.footer.empty()) page.lines(verb.footer);
}

void add_exit_codes(Page& page) {
  page.section("EXIT STATUS");
  page.raw(".PD 0\n");
  for (const ExitCodeReference& exit : exit_codes()) {
    page.item(std::to_string(exit.code), "", exit.meaning);
  }
  page.raw(".PD\n");
}

void add_files(Page& page, bool client) {
  page.section("FILES");
  if (client) {
    page.item(control::kClientSocket, "", "Where the daemon takes commands.");
    page.item("/etc/rnbd/client.toml", "", "Configuration of rnbd-client.service.");
    page.item("/var/lib/rnbd/client-state.json", "", "What was mapped with persist=yes.");
    page.item("/dev/rnbd/, /dev/disk/by-id/rnbd-*", "", "Links to mapped devices.");
  } else {
    page.item(control::kServerSocket, "", "Where the daemon takes commands.");
    page.item("/etc/rnbd/server.toml", "", "Configuration of rnbd-server.service.");
    page.item("/var/lib/rnbd/server-state.json", "", "What was exported with export add.");
    page.item("/var/lib/rnbd/exports", "", "What is exported unless the configuration says else.");
  }
}

void see_also(Page& page, std::string_view pages) {
  page.section("SEE ALSO");
  page.paragraph(pages);
}

const VerbReference* find_verb(const ProgramReference& program, std::string_view name) {
  const auto found = std::ranges::find(program.verbs, name, &VerbReference::name);
  return found == program.verbs.end() ? nullptr : &*found;
}

/// How a value of the command line is written in TOML.
std::string toml_value(std::string_view value) {
  if (value == "yes|no") return "true|false";
  if (value == "N" || value == "BYTES") return std::string(value);
  return fmt::format("\"{}\"", value);
}

void add_key(Page& page, const OptionReference& option) {
  std::string key = option.names.back().substr(2);
  std::ranges::replace(key, '-', '_');
  std::string help = option.help;
  if (option.value == "yes|no" && help.ends_with("[yes]")) help.replace(help.size() - 4, 3, "true");
  page.item(key + " = ", toml_value(option.value), help);
}

/// Words of map that the client's configuration may say in advance.
void add_default_words(Page& page) {
  for (const MapWord& word : kMapWords) {
    const auto& names = client::kDefaultWords;
    if (std::ranges::find(names, word.name) == names.end()) continue;
    page.item(fmt::format("{} = ", word.name), toml_value(word.value), word.help);
  }
}

void add_words(Page& page, bool of_session) {
  for (const MapWord& word : kMapWords) {
    if (word.of_session != of_session) continue;
    page.item(fmt::format("{}=", word.name), word.value, word.help);
  }
}

}  // namespace

std::string command_manual(const ProgramReference& program, std::string_view version) {
  const bool client = is_client(program);
  Page page(program.name, 8, version, with_small_letter(program.help));
  std::string synopsis;
  for (const VerbReference& verb : program.verbs) synopsis += synopsis_of(program, verb);
  page.section("SYNOPSIS");
  page.raw(synopsis);
  page.section("DESCRIPTION");
  page.paragraph(client ? kClientText : kServerText);
  page.paragraph(kErrorText);
  if (client) page.paragraph(kLinksText);
  page.section("COMMANDS");
  for (const VerbReference& verb : program.verbs) add_verb(page, verb);
  page.section("OPTIONS");
  page.paragraph("Of all commands:");
  for (const OptionReference& option : program.options) add_option(page, option);
  add_exit_codes(page);
  add_files(page, client);
  see_also(page, client ? "rnbd-client.toml(5), rnbd-mapping(7), rnbd-server(8), fstab(5), "
                          "systemd.mount(5), udev(7)"
                        : "rnbd-server.toml(5), rnbd-client(8)");
  return page.text();
}

std::string config_manual(const ProgramReference& program, std::string_view version) {
  const bool client = is_client(program);
  const std::string file = fmt::format("/etc/rnbd/{}.toml", client ? "client" : "server");
  Page page(program.name + ".toml", 5, version, "configuration of " + program.name);
  page.section("SYNOPSIS");
  page.lines(fmt::format("{0}\n{0}.d/*.toml", file));
  page.section("DESCRIPTION");
  page.paragraph(fmt::format(
      "A TOML file of keys and values, read when the daemon starts with --config, and by {} "
      "reload. "
      "All keys may be left out; what stands in brackets counts then. The drop-ins are read behind "
      "it, in the order of their names, and override it key by key. What is on the daemon's "
      "command "
      "line counts more. A key that is not known, or a value that cannot be, is told with file, "
      "line and column: the daemon does not start, or goes on as it was.",
      program.name));
  page.section("KEYS");
  if (client) add_default_words(page);
  for (const OptionReference& option : program.options) {
    if (option.value == "PATH") add_key(page, option);  // --control
  }
  for (const OptionReference& option : find_verb(program, "daemon")->options) {
    if (!option.value.empty() && option.names.back() != "--config") add_key(page, option);
  }
  if (client) {
    page.section("EXAMPLE");
    page.lines("on_no_path = \"fail-after:60\"\nlog_level = \"warning\"");
    see_also(page, "rnbd-client(8), rnbd-mapping(7)");
    return page.text();
  }
  page.item("[[export]]", "", kExportText);
  page.paragraph(
      "A session pins sess_queue_depth times (max_io_size + 4096) bytes of memory: 64 MiB by "
      "default.");
  page.section("EXAMPLE");
  page.lines(
      "# Each client host sees its own directory of the volume group.\n"
      "dev_search_path = \"/dev/exports/%SESSNAME%\"\n"
      "sess_queue_depth = 256\n"
      "log_level = \"warning\"\n"
      "\n"
      "[[export]]\n"
      "name = \"vol1\"\n"
      "path = \"/dev/vg/vol1\"\n"
      "access = \"ro\"");
  see_also(page, "rnbd-server(8)");
  return page.text();
}

std::string mapping_manual(std::string_view version) {
  Page page("rnbd-mapping", 7, version, "the words that say what rnbd-client maps");
  page.section("SYNOPSIS");
  page.lines(
      "rnbd-client map server=ip:ADDR device_path=NAME [WORD…]\n"
      "rnbd-client map sessname=NAME path=[SRC@]DST [path=…] device_path=NAME [WORD…]");
  page.section("DESCRIPTION");
  page.paragraph(
      "Words are key=value, in any order, each once. They are those of the kernel's "
      "/sys/class/rnbd-client/ctl/map_device and of IBNBD before it, and a few more. Addresses are "
      "ip:V4, ip:V6, ip:[V6] or gid:GID; an IPv6 address of one link names its interface behind a "
      "percent sign.");
  page.section("WORDS");
  add_words(page, false);
  page.subsection("Of a session that does not exist yet");
  add_words(page, true);
  page.section("SESSIONS");
  page.paragraph(
      "A session is everything between this host and a server under one name. server= names it "
      "HOST@ADDRESS, with dashes for dots and colons, and :PORT behind it unless the port is 1234. "
      "Devices that are mapped with the same session share its paths. It ends with its last "
      "device.");
  page.section("EXAMPLES");
  page.lines(
      "rnbd-client map server=ip:10.0.0.1 device_path=vol1\n"
      "rnbd-client map sessname=blya path=ip:10.0.0.1 path=ip:10.1.0.1 device_path=vol1 \\\n"
      "    access_mode=ro on_no_path=fail-after:60");
  see_also(page, "rnbd-client(8)");
  return page.text();
}

std::string tab_manual(std::string_view version) {
  Page page("rnbdtab", 5, version, "what rnbd-client maps at boot");
  page.section("SYNOPSIS");
  page.paragraph("/etc/rnbd/rnbdtab");
  page.section("DESCRIPTION");
  page.paragraph(
      "A line for each device, in four columns with blanks between them, as in fstab(5). What "
      "follows a # is a comment. In the second and the following columns \\040 is a blank, \\011 a "
      "tab, \\012 a newline and \\134 a backslash.");
  page.item("NAME", "",
            "How the line is called: letters, digits, _ . : and -, up to 64. The device's unit is "
            "rnbd-map@NAME.service.");
  page.item("SERVER", "", "The value of server=, or the name of a session.");
  page.item("DEVICE_PATH", "", "The value of device_path=.");
  page.item("OPTIONS", "",
            "Words of rnbd-mapping(7) with commas between them; path= may be repeated. And noauto: "
            "only when asked for; nofail: the boot does not depend on it; _netdev and defaults, "
            "which mean nothing more. May be left out.");
  page.section("UNITS");
  page.paragraph(
      "A generator makes remote-fs.target require rnbd-map@NAME.service, or want it if the line "
      "has nofail; not with noauto. After a change: systemctl daemon-reload. rnbd-client apply "
      "maps "
      "what is missing at once, map --tab NAME one line.");
  page.section("EXAMPLE");
  page.lines(
      "vol1  ip:10.0.0.1  vol1        defaults\n"
      "logs  ip:10.0.0.1  logs        access_mode=ro,nofail\n"
      "big   blya         /dev/vg/v2  path=ip:10.0.0.1,path=ip:10.1.0.1,on_no_path=fail-after:60");
  page.paragraph("And in fstab(5):");
  page.lines("/dev/rnbd/blya/dev/vg/v2  /srv/big  ext4  _netdev,nofail  0 0");
  see_also(page, "rnbd-client(8), rnbd-mapping(7), fstab(5), systemd.generator(7)");
  return page.text();
}

}  // namespace rnbd::cli
