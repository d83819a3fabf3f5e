"""How pack and unpack grow with the number of files, beside tar and zstd, which have to touch each of them too."""

from __future__ import annotations

import random
import shutil
from functools import partial
from pathlib import Path

from benchmarks.bench import Bench, cores, settle, trainenv
from benchmarks.measuring import BenchmarkError, Case, Comparison, Contender
from benchmarks.shipping import EXTRACT, PIPE

COUNTS = (1_000, 10_000, 50_000, 200_000)
ROUNDS = 3

_NAME = "many"
_FILES_IN_A_FOLDER = 100
_WORDS = 300
"""Words of a file: it has some 2 KB, as most modules of Python packages have less than 10."""


def pack_many_case(count: int, bench: Bench) -> Case:
    """``trainenv pack`` of ``count`` small files, beside tar piped to zstd."""
    prefix = _prefix(bench, count)
    own, plain = (_folder(bench, count) / f"{name}.tar.zst" for name in ("trainenv", "tar"))
    threads = str(cores())
    return Case(
        f"pack-{count}",
        f"Pack {count:,} files of 2 KB",
        [
            Contender(
                "trainenv pack",
                (trainenv(), "pack", "-p", str(prefix), "-o", str(own)),
                prepare=partial(_before_packing, own),
                output=own,
            ),
            Contender(
                f"tar | zstd -3 -T{threads}",
                ("bash", "-c", PIPE, "bash", str(prefix), str(plain), threads),
                prepare=partial(_before_packing, plain),
                output=plain,
            ),
        ],
        ROUNDS,
        Comparison.RATIO,
    )


def unpack_many_case(count: int, bench: Bench) -> Case:
    """``trainenv unpack`` of the same, beside ``tar --zstd -xf``, which neither checks nor relocates."""
    archive = _folder(bench, count) / "trainenv.tar.zst"
    if not archive.exists():
        bench.run(trainenv(), "pack", "-p", str(_prefix(bench, count)), "-o", str(archive))
    own, plain = bench.machine_b / "envs" / _NAME, bench.folder / "places" / _NAME
    plain.parent.mkdir(exist_ok=True)
    return Case(
        f"unpack-{count}",
        f"Unpack {count:,} files of 2 KB, on the same file system",
        [
            Contender(
                "trainenv unpack",
                (*bench.on_machine_b(trainenv()), "unpack", str(archive), "-n", _NAME),
                prepare=partial(_before_unpacking, own, plain),
                check=partial(_check, own, count),
            ),
            Contender(
                "tar --zstd -xf alone",
                ("sh", "-c", EXTRACT.format(options="--zstd -xf"), "sh", str(archive), str(plain)),
                prepare=partial(_before_unpacking, own, plain),
                check=partial(_check, plain, count),
            ),
        ],
        ROUNDS,
        Comparison.RATIO,
    )


def _folder(bench: Bench, count: int) -> Path:
    folder = bench.folder / "scaling" / str(count)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _prefix(bench: Bench, count: int) -> Path:
    """A prefix of ``count`` files that hold different words, one in ten of them its own prefix too."""
    prefix = _folder(bench, count) / "prefix"
    if prefix.exists():
        return prefix
    rng = random.Random(count)
    words = [rng.randbytes(rng.randrange(2, 5)).hex() for _ in range(5000)]
    (prefix / "conda-meta").mkdir(parents=True)
    (prefix / "conda-meta" / "history").touch()
    for number in range(count - 1):
        folder = prefix / "share" / f"{number // _FILES_IN_A_FOLDER:05}"
        if number % _FILES_IN_A_FOLDER == 0:
            folder.mkdir(parents=True)
        text = " ".join(rng.choices(words, k=_WORDS))
        (folder / f"{number:06}.txt").write_text(f"{text}\n{prefix if number % 10 == 0 else ''}\n")
    return prefix


def _before_packing(archive: Path) -> None:
    archive.unlink(missing_ok=True)
    settle()


def _before_unpacking(*targets: Path) -> None:
    for target in targets:
        shutil.rmtree(target, ignore_errors=True)
    settle()


def _check(target: Path, count: int) -> None:
    found = sum(1 for path in (target / "share").rglob("*.txt"))
    if found != count - 1:
        raise BenchmarkError(f"{target} has {found} files, not {count - 1}")
