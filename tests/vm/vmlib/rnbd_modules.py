# SPDX-License-Identifier: Apache-2.0
"""The kernel's own RNBD, which Debian does not build: five modules for a guest's kernel, made from Debian's packages.

    build/vm/<kernel release>/rnbd-<package version>-<digest>/*.ko

Sources, headers and kernel image have to be of the same version, or the modules would not load. Nothing but the two
drivers' directories is taken out of the source package, and nothing but the modules is kept.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from vmlib import BenchError, cache
from vmlib.cache import BootFiles

MODULES = ("rtrs-core", "rtrs-client", "rtrs-server", "rnbd-client", "rnbd-server")
RTRS, RNBD = "drivers/infiniband/ulp/rtrs", "drivers/block/rnbd"
SETTINGS = (
    "CONFIG_INFINIBAND_RTRS=m", "CONFIG_INFINIBAND_RTRS_CLIENT=m", "CONFIG_INFINIBAND_RTRS_SERVER=m",
    "CONFIG_BLK_DEV_RNBD_CLIENT=m", "CONFIG_BLK_DEV_RNBD_SERVER=m",
    "CONFIG_DEBUG_INFO=", "CONFIG_DEBUG_INFO_BTF_MODULES=",  # ten times larger with it, and loaded through 9p
)  # fmt: skip
KBUILD = f"obj-m := {RTRS}/ {RNBD}/\nsubdir-ccflags-y := -I$(src)/{RTRS}\n"

DOWNLOAD_SECONDS = 600  # 150 MB
UNPACK_SECONDS = 300
COMPILE_SECONDS = 600


def prepare(boot: BootFiles, say=print) -> Path:
    """Return the directory with the modules for this kernel, making them first if need be (half a minute)."""
    version = _version(boot)
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    home = boot.kernel.parent / f"rnbd-{version}-{recipe}"
    with cache.locked(boot.kernel.parent / "rnbd.lock"):
        if not home.exists():
            say(f"vm: building the kernel's RNBD modules of {version}")
            with tempfile.TemporaryDirectory(dir=boot.kernel.parent, prefix="rnbd-build-") as scratch:
                _make(Path(scratch), boot.release, version, say).rename(home)
    return home


def _version(boot: BootFiles) -> str:
    """The package version of the kernel, from its own version string: ELF files and bzImages have it in the clear."""
    found = re.search(rb"#\d+ SMP[^\n\0]* Debian ([^ \0]+) \(", boot.kernel.read_bytes())
    if not found:
        raise BenchError(f"{boot.kernel} does not say which Debian version it is of")
    return found[1].decode()


def _make(scratch: Path, release: str, version: str, say) -> Path:
    packages = scratch / "packages"
    packages.mkdir()
    series = re.match(r"\d+\.\d+", release)[0]
    sources = f"linux-source-{series}"
    cache.with_fresh_lists(lambda: _download(packages, release, version, sources), say)
    headers = scratch / "headers"
    for package in packages.glob("*.deb"):
        if not package.name.startswith(sources):
            cache.run(["dpkg-deb", "-x", package, headers], f"unpacking {package.name}", seconds=UNPACK_SECONDS)
    tree = scratch / "tree"
    _unpack_drivers(next(packages.glob(f"{sources}_*.deb")), sources, tree)
    (tree / "Kbuild").write_text(KBUILD)
    output = headers / f"usr/src/linux-headers-{release}"
    # It includes the common headers' Makefile by where it would be installed.
    makefile = output / "Makefile"
    makefile.write_text(makefile.read_text().replace("/usr/src/", f"{headers}/usr/src/"))
    words = ["make", "-s", f"-j{os.cpu_count()}", "-C", output, f"M={tree}", *SETTINGS, "modules"]
    cache.run(words, "compiling the RNBD modules", seconds=COMPILE_SECONDS)
    made = scratch / "made"
    made.mkdir()
    for name in MODULES:
        shutil.copy(next(tree.rglob(f"{name}.ko")), made)
    return made


def _download(packages: Path, release: str, version: str, sources: str) -> None:
    headers = f"linux-headers-{release}"
    shown = cache.run(["apt-cache", "show", f"{headers}={version}"], "asking apt for the headers", check=False).stdout
    depends = "".join(re.findall(r"^Depends: (.*)", shown, re.MULTILINE))
    needed = re.findall(r"\blinux-headers-[^ ,]+-common\b|\blinux-kbuild-[^ ,]+", depends)
    offered = cache.run(["apt-cache", "madison", sources], "asking apt for the sources", check=False).stdout
    versions = [line.split("|")[1].strip() for line in offered.splitlines() if line.count("|") == 2]
    if not needed or version not in versions:
        missing = sources if needed else headers
        raise BenchError(
            f"the guest's kernel is of version {version}, of which the archive has no {missing} (any more); modules of "
            f"another version would not load. tests/vm/prepare --update fetches the newest kernel; the sources are "
            f"offered in {', '.join(dict.fromkeys(versions)) or 'no version at all'}"
        )
    cache.run(
        ["apt-get", "-o", "APT::Sandbox::User=root", "download",
         *(f"{package}={version}" for package in (headers, *needed, sources))],
        "downloading the kernel's sources and headers",
        cwd=str(packages),
        seconds=DOWNLOAD_SECONDS,
    )  # fmt: skip


def _unpack_drivers(package: Path, sources: str, tree: Path) -> None:
    """The two directories out of the archive in the package, without either of them whole on the disk."""
    inside = f"./usr/src/{sources}.tar.xz"
    tree.mkdir()
    script = (
        'set -o pipefail; dpkg-deb --fsys-tarfile "$1" | tar -xO "$2" '
        '| tar -xJ -C "$3" --strip-components=1 "$4/$5" "$4/$6"'
    )
    words = ["bash", "-c", script, "unpack", package, inside, tree, sources, RTRS, RNBD]
    cache.run(words, f"unpacking {package.name}", seconds=UNPACK_SECONDS)
