"""How long an environment takes into an archive, and out of it to a prefix that works."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.bench import ENVIRONMENT, Bench, conda_pack, cores, settle, trainenv
from benchmarks.measuring import BenchmarkError, Case, Comparison, Contender

ROUNDS = 5
UNPACKED = "unpacked"

PIPE = 'set -o pipefail; tar -cf - -C "$1" . | zstd -q -3 "-T$3" -o "$2"'
EXTRACT = 'mkdir "$2" && tar {options} "$1" -C "$2"'
_FIX_UP = ' && "$2/bin/python" "$2/bin/conda-unpack"'


@dataclass(frozen=True)
class Way:
    """One way to ship: how to ``pack`` into ``archive``, how to ``unpack`` that, and where it then lies."""

    name: str
    archive: Path
    pack: Sequence[str]
    unpacker: str
    unpack: Sequence[str]
    target: Path


def pack_case(bench: Bench) -> Case:
    """``trainenv pack`` beside conda-pack and beside tar and zstd, which do no more than they must."""
    ways, missing = _all_ways(bench)
    contenders = [
        Contender(way.name, way.pack, prepare=partial(_before_packing, way.archive), output=way.archive) for way in ways
    ]
    return Case(
        "pack",
        "Pack the environment",
        contenders,
        ROUNDS,
        Comparison.RATIO,
        missing,
        "tar and zstd only store the files; the others also make them ready for another prefix.",
    )


def unpack_case(bench: Bench) -> Case:
    """``trainenv unpack`` beside tar with and without conda-unpack. Packs first what is not packed yet."""
    ways, missing = _all_ways(bench)
    for way in ways:
        if not way.archive.exists():
            bench.run(*way.pack)
    contenders = [
        Contender(
            way.unpacker,
            way.unpack,
            prepare=partial(before_unpacking, bench, way.target),
            check=partial(check_unpacked, bench, way.target),
        )
        for way in ways
    ]
    return Case(
        "unpack",
        "Unpack it into a prefix that works, on the same file system",
        contenders,
        ROUNDS,
        Comparison.RATIO,
        missing,
        "trainenv checks every file's sha256 and relocates it; conda-unpack relocates; tar alone does neither.",
    )


def ways_to_ship(bench: Bench) -> tuple[list[Way], list[str]]:
    """All ways that this machine has, trainenv's first, and the names of those that it lacks."""
    archives, places = bench.folder / "archives", bench.folder / "places"
    archives.mkdir(exist_ok=True)
    places.mkdir(exist_ok=True)
    ways, missing = [_trainenv(bench, archives / "trainenv.tar.zst")], []
    packer = conda_pack()
    for form, options in (("tar.gz", "-xzf"), ("tar.zst", "--zstd -xf")):
        if packer:
            ways.append(_conda_pack(bench, packer, options, archives / f"conda-pack.{form}", places / form))
        else:
            missing.append(f"conda-pack .{form}")
    if shutil.which("zstd") and shutil.which("tar"):
        ways.append(_tar(bench, archives / "tar.tar.zst", places / "tar"))
    else:
        missing.append("tar and zstd")
    return ways, missing


def _all_ways(bench: Bench) -> tuple[list[Way], list[str]]:
    """``ways_to_ship``, and trainenv's other formats."""
    ways, missing = ways_to_ship(bench)
    archives = bench.folder / "archives"
    ways.append(_trainenv(bench, archives / "trainenv.tar.gz", ".tar.gz"))
    if shutil.which("mksquashfs"):
        ways.append(_trainenv(bench, archives / "trainenv.squashfs", ".squashfs", "--mount"))
    else:
        missing.append("mksquashfs")
    return ways, missing


def _trainenv(bench: Bench, archive: Path, form: str = "", *options: str) -> Way:
    return Way(
        f"trainenv pack {form}".strip(),
        archive,
        (trainenv(), "pack", "-n", ENVIRONMENT, "-o", str(archive)),
        " ".join(["trainenv unpack", *filter(None, [form]), *options]),
        (*bench.on_machine_b(trainenv()), "unpack", str(archive), "-n", UNPACKED, *options),
        bench.machine_b / "envs" / UNPACKED,
    )


def _conda_pack(bench: Bench, packer: str, options: str, archive: Path, target: Path) -> Way:
    return Way(
        f"conda-pack {''.join(archive.suffixes)}",
        archive,
        (packer, "-q", "-p", str(bench.prefix), "-o", str(archive), "--n-threads", str(cores())),
        f"tar {options} + conda-unpack",
        ("sh", "-c", EXTRACT.format(options=options) + _FIX_UP, "sh", str(archive), str(target)),
        target,
    )


def _tar(bench: Bench, archive: Path, target: Path) -> Way:
    threads = str(cores())
    return Way(
        f"tar | zstd -3 -T{threads}",
        archive,
        ("bash", "-c", PIPE, "bash", str(bench.prefix), str(archive), threads),
        "tar --zstd -xf alone",
        ("sh", "-c", EXTRACT.format(options="--zstd -xf"), "sh", str(archive), str(target)),
        target,
    )


def _before_packing(archive: Path) -> None:
    archive.unlink(missing_ok=True)
    settle()


def before_unpacking(bench: Bench, next_target: Path) -> None:
    """Remove what the last run unpacked, whoever it was: the disk is as full for each."""
    place = bench.folder / "places"
    for old in place.iterdir():
        shutil.rmtree(old)
    if (bench.machine_b / "envs" / UNPACKED).exists():
        bench.run(*bench.on_machine_b(trainenv()), "env", "remove", "-n", UNPACKED, "-y")
    if next_target.exists():
        raise BenchmarkError(f"{next_target.name} could not be removed")
    settle()


def check_unpacked(bench: Bench, target: Path) -> None:
    """The interpreter there starts, is at home there, and imports a package with libraries of its own."""
    program = "import sys, numpy; print(sys.prefix)"
    prefix = bench.run(str(target / "bin" / "python"), "-B", "-c", program).strip()
    if Path(prefix) != target:
        raise BenchmarkError(f"the interpreter unpacked to {target} takes {prefix} for its prefix")
