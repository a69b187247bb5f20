# SPDX-License-Identifier: Apache-2.0
"""What a guest boots from: an unpacked Debian kernel and an initramfs, kept in the cache directory.

    build/vm/                         (or $RNBD_VM_CACHE)
      lock                            held while anything below is made
      kernel-default.json             which package and version `linux-image-amd64` meant, when asked
      <kernel release>/kernel         the kernel
      <kernel release>/lib/modules/   its modules, after depmod: shared over the guest's /lib/modules
      <kernel release>/initramfs-<digest>.gz
      <kernel release>/rnbd-<version>-<digest>/   the kernel's own RNBD, when asked for: rnbd_modules.py

A kernel directory appears by one rename, what is in it too and under a name made from what went into it: whoever sees
one sees a whole one, and a run that has started keeps its files whatever a later `prepare` does.
"""

import contextlib
import fcntl
import gzip
import hashlib
import json
import lzma
import os
import re
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from vmlib import BenchError

REPO = Path(__file__).resolve().parents[3]
GUEST_INIT = REPO / "tests/vm/guest/init"
BUSYBOX = Path("/bin/busybox")

# The drivers of what machine.py plugs in and of the root file system; a script loads the others from the modules share.
INITRAMFS_MODULES = ("virtio_pci", "virtio_console", "virtio_net", "virtio_blk", "9pnet_virtio", "9p", "overlay")

APT_SECONDS = 300
UNPACK_SECONDS = 300


@dataclass(frozen=True)
class BootFiles:
    """One kernel, ready to boot."""

    release: str
    kernel: Path
    initramfs: Path
    modules: Path  # holds <release>/


def cache_dir() -> Path:
    return Path(os.environ.get("RNBD_VM_CACHE") or REPO / "build/vm").resolve()


def prepare(kernel: str | None = None, update: bool = False, say=print) -> BootFiles:
    """Return boot files for the default kernel or for series `kernel` ("6.12"), making what is missing.

    `update` asks the package archive again what the newest version is. Needs the network only for what is missing.
    """
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache / "lock"):
        record = cache / f"kernel-{kernel or 'default'}.json"
        wanted = json.loads(record.read_text()) if record.exists() and not update else None
        if wanted is None or not (cache / wanted["release"]).exists():
            # Asked anew: the version once recorded may be gone from the archive.
            wanted = _newest_kernel(kernel, cache, say)
            _write(record, json.dumps(wanted, indent=2) + "\n")
        home = cache / wanted["release"]
        return BootFiles(
            release=wanted["release"],
            kernel=home / "kernel",
            initramfs=_initramfs(home, wanted["release"], say),
            modules=home / "lib/modules",
        )


@contextlib.contextmanager
def locked(path: Path):
    """Hold the lock file while the block runs; waits for whoever has it."""
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # bounded by the holder's own bounds on apt-get and dpkg-deb
        yield


def _newest_kernel(series: str | None, cache: Path, say) -> dict:
    """Have the newest kernel of the series in the cache; what it is."""

    def fetch() -> dict:
        wanted = _resolve(series)
        _fetch_kernel(wanted, cache / wanted["release"], say)
        return wanted

    return with_fresh_lists(fetch, say)


def with_fresh_lists(action, say):
    """What `action` returns; tried again after apt-get update if it fails and we may do that."""
    try:
        return action()
    except BenchError as error:
        if os.geteuid() != 0:
            raise
        say(f"vm: {error}\nvm: trying again after apt-get update")
        run(["apt-get", "update"], "refreshing the package lists", seconds=APT_SECONDS)
        return action()


def _resolve(series: str | None) -> dict:
    """Ask apt which image package the meta package stands for."""
    meta = f"linux-image-{series}-amd64" if series else "linux-image-amd64"
    shown = run(["apt-cache", "--no-all-versions", "show", meta], "asking apt for the kernel", check=False).stdout
    found = re.search(r"^Depends:.*?\b(linux-image-(\S+-amd64))(?: \(= ([^)]+)\))?", shown, re.MULTILINE)
    if not found:
        raise BenchError(
            f"apt knows no package {meta} (or not what it depends on); "
            "run apt-get update, and check that the archive offers this kernel series"
        )
    package, release, version = found.groups()
    return {"meta": meta, "package": package, "version": version or "newest", "release": release}


def _fetch_kernel(wanted: dict, home: Path, say) -> None:
    if home.exists():
        return
    say(f"vm: fetching {wanted['package']} {wanted['version']}")
    with tempfile.TemporaryDirectory(dir=home.parent, prefix="unpack-") as scratch:
        package = wanted["package"] if wanted["version"] == "newest" else f"{wanted['package']}={wanted['version']}"
        run(
            ["apt-get", "-o", "APT::Sandbox::User=root", "download", package],
            "downloading the kernel (apt-get update helps if its version is gone from the archive)",
            cwd=scratch,
            seconds=APT_SECONDS,
        )
        archive = next(Path(scratch).glob("*.deb"))
        tree = Path(scratch) / "tree"
        run(["dpkg-deb", "-x", archive, tree], "unpacking the kernel", seconds=UNPACK_SECONDS)
        made = Path(scratch) / "made"
        made.mkdir()
        (made / "kernel").write_bytes(_unpacked((tree / f"boot/vmlinuz-{wanted['release']}").read_bytes()))
        (tree / "lib").rename(made / "lib")
        run(["depmod", "-b", made, wanted["release"]], "indexing the modules", seconds=UNPACK_SECONDS)
        made.rename(home)


def _unpacked(image: bytes) -> bytes:
    """The kernel's ELF file out of a bzImage, which QEMU boots directly: unpacking itself under emulation would take the
    kernel 2.5 s at every start. The image itself if its compression is one Python does not know.

    The header is described in Linux's Documentation/arch/x86/boot.rst: setup_sects, payload_offset, payload_length.
    """
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = image[start : start + length]
    if payload.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor().decompress(payload)  # behind it stands the length, which ends no xz stream
    return image


def _initramfs(home: Path, release: str, say) -> Path:
    modules = _with_dependencies(home / "lib/modules" / release, INITRAMFS_MODULES)
    if not BUSYBOX.exists() or not _is_static(BUSYBOX):
        raise BenchError(f"no static {BUSYBOX}: scripts/install-deps.sh --vm installs busybox-static")
    digest = hashlib.sha256()
    for part in (GUEST_INIT, BUSYBOX, *modules):
        digest.update(part.name.encode() + b"\0" + part.read_bytes())
    target = home / f"initramfs-{digest.hexdigest()[:16]}.gz"
    if not target.exists():
        say(f"vm: building {target.name}")
        with tempfile.TemporaryDirectory(dir=home, prefix="initramfs-") as scratch:
            root = Path(scratch) / "root"
            _fill_initramfs(root, modules)
            names = "\n".join(str(p.relative_to(root)) for p in sorted(root.rglob("*")))
            packed = subprocess.run(
                ["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"],
                cwd=root, input=names.encode(), capture_output=True, timeout=UNPACK_SECONDS, check=True,
            )
            whole = Path(scratch) / "whole.gz"
            whole.write_bytes(gzip.compress(packed.stdout, compresslevel=1, mtime=0))
            whole.rename(target)
    return target


def _is_static(program: Path) -> bool:
    """Whether a 64-bit ELF program names no interpreter (the dynamic linker)."""
    image = program.read_bytes()
    table = struct.unpack_from("<Q", image, 0x20)[0]
    size, count = struct.unpack_from("<HH", image, 0x36)
    return all(struct.unpack_from("<I", image, table + size * each)[0] != 3 for each in range(count))


def _fill_initramfs(root: Path, modules: list[Path]) -> None:
    for name in ("bin", "dev", "proc", "sys", "modules"):
        (root / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin/busybox")
    shutil.copy(GUEST_INIT, root / "init")
    (root / "init").chmod(0o755)
    for number, module in enumerate(modules):
        name = module.name.split(".ko")[0]
        # The number keeps the order of loading in the file names.
        (root / "modules" / f"{number:02d}-{name}.ko").write_bytes(_plain_module(module))


def _with_dependencies(tree: Path, names: tuple[str, ...]) -> list[Path]:
    """The modules and what they depend on, in an order in which insmod takes them."""
    depends: dict[str, list[str]] = {}
    for line in (tree / "modules.dep").read_text().splitlines():
        module, _, needs = line.partition(":")
        depends[module] = needs.split()
    by_name = {Path(path).name.split(".ko")[0]: path for path in depends}
    builtin = {Path(path).name.split(".ko")[0] for path in (tree / "modules.builtin").read_text().splitlines()}
    ordered: dict[str, None] = {}
    for name in names:
        if name in builtin:
            continue
        if name not in by_name:
            raise BenchError(f"kernel {tree.name} has no module {name}")
        path = by_name[name]
        # modules.dep lists direct and indirect dependencies, the deepest last.
        for each in (*reversed(depends[path]), path):
            ordered.setdefault(each)
    return [tree / path for path in ordered]


def _plain_module(path: Path) -> bytes:
    if path.suffix == ".ko":
        return path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    raise BenchError(f"module compressed in an unknown way: {path}")


def _write(path: Path, text: str) -> None:
    partial = path.with_suffix(".new")
    partial.write_text(text)
    partial.rename(path)


def run(command: list, doing: str, cwd: str | None = None, seconds: int = 60, check: bool = True):
    """Run a command for at most `seconds`; a BenchError that says what was being done if it cannot be run or, with
    `check`, fails."""
    # Where depmod is; not everybody has it in the PATH.
    environment = os.environ | {"PATH": os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"}
    try:
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=seconds)
    except FileNotFoundError:
        raise BenchError(f"{doing}: {command[0]} is not installed (scripts/install-deps.sh --vm)") from None
    except subprocess.TimeoutExpired:
        raise BenchError(f"{doing}: {command[0]} took more than {seconds} s") from None
    if check and done.returncode != 0:
        raise BenchError(f"{doing}: {command[0]} failed:\n{(done.stderr or done.stdout).strip()}")
    return done
