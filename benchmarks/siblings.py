"""How long a machine takes that has most of an environment already: a sibling of one, and the next state of one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.bench import ENVIRONMENT, Bench, cores, settle, trainenv
from benchmarks.measuring import Case, Comparison, Contender
from benchmarks.shipping import ROUNDS, UNPACKED, Way, before_unpacking, check_unpacked, ways_to_ship

SIBLING = "sibling"
CHANGED = "changed"
_PIPE = 'set -o pipefail; tar -cf - -C "$1" -T "$4" | zstd -q -3 "-T$3" -o "$2"'


def sibling_case(bench: Bench) -> Case:
    """``trainenv unpack`` where an environment of the same archive is there, beside who can't make use of that."""
    ways, missing = with_sibling(bench)
    own = ways[0]
    known = Contender(
        own.unpacker,
        own.unpack,
        prepare=partial(before_unpacking_known, bench, own),
        check=partial(check_unpacked, bench, own.target),
    )
    anew = Contender(
        f"{own.unpacker}, all hashed anew", own.unpack, prepare=partial(before_unpacking, bench, own.target)
    )
    contenders = [known, anew, *(_unpacker(bench, way) for way in ways[1:])]
    copy = bench.folder / "places" / "linked"
    contenders.append(
        Contender(
            "cp -al of the sibling",
            ("cp", "-al", str(bench.machine_b / "envs" / SIBLING), str(copy)),
            prepare=partial(before_unpacking, bench, copy),
        )
    )
    note = (
        "The machine has an environment of the same archive. trainenv knows its files from when it unpacked them; "
        "after an environment that shares them was changed or removed it hashes them anew. cp only makes the links."
    )
    return Case("sibling", "Unpack it beside a sibling", contenders, ROUNDS, Comparison.RATIO, missing, note)


def delta_case(bench: Bench) -> Case:
    """``trainenv pack --against`` after a change of a package, beside packing all again and the changed files alone."""
    after = changed(bench)
    base = _base(bench)
    archives = bench.folder / "archives"
    delta, again, alone = (archives / f"{name}.tar.zst" for name in ("delta", "again", "alone"))
    listed = bench.folder / "changed_files"
    listed.write_text("".join(f"{path}\n" for path in _changed_files(bench.prefix, after)))
    everything = bench.folder / "everything"
    everything.write_text(".\n")
    threads = str(cores())

    def tar(name: str, output: Path, files: Path) -> Contender:
        command = ("bash", "-c", _PIPE, "bash", str(after), str(output), threads, str(files))
        return Contender(name, command, prepare=partial(_before_packing, bench, output), output=output)

    contenders = [
        Contender(
            "trainenv pack --against",
            (trainenv(), "pack", "-n", CHANGED, "--against", str(base), "-o", str(delta)),
            prepare=partial(_before_packing, bench, delta),
            output=delta,
        ),
        Contender(
            "trainenv pack",
            (trainenv(), "pack", "-n", CHANGED, "-o", str(again)),
            prepare=partial(_before_packing, bench, again),
            output=again,
        ),
        tar(f"tar | zstd -3 -T{threads}", archives / "tar-again.tar.zst", everything),
        tar("tar | zstd, the changed files alone", alone, listed),
    ]
    note = "numpy has another version. trainenv knows no file from before, as after every change, and hashes all."
    return Case("delta", "Pack it again after one package changed", contenders, ROUNDS, Comparison.RATIO, note=note)


def delta_unpack_case(bench: Bench) -> Case:
    """``trainenv unpack`` of a delta where its base is, beside unpacking a whole archive."""
    ways, missing = with_sibling(bench)
    changed(bench)
    delta = bench.folder / "archives" / "delta.tar.zst"
    if not delta.exists():
        bench.run(trainenv(), "pack", "-n", CHANGED, "--against", str(_base(bench)), "-o", str(delta))
    own = Way("", delta, (), "trainenv unpack, a delta", _unpack(bench, delta), bench.machine_b / "envs" / UNPACKED)
    contenders = [_unpacker(bench, own), *(_unpacker(bench, way) for way in ways[1:])]
    note = "The machine has the environment as it was before; the others unpack all again."
    return Case(
        "delta-unpack", "Unpack what one changed package left", contenders, ROUNDS, Comparison.RATIO, missing, note
    )


def with_sibling(bench: Bench) -> tuple[list[Way], list[str]]:
    """All ways to ship, each packed, once machine B has an environment of trainenv's archive."""
    ways, missing = ways_to_ship(bench)
    for way in ways:
        if not way.archive.exists():
            bench.run(*way.pack)
    if not (bench.machine_b / "envs" / SIBLING).exists():
        bench.run(*_unpack(bench, ways[0].archive)[:-1], SIBLING)
    return ways, missing


def _unpacker(bench: Bench, way: Way) -> Contender:
    return Contender(
        way.unpacker,
        way.unpack,
        prepare=partial(before_unpacking, bench, way.target),
        check=partial(check_unpacked, bench, way.target),
    )


def before_unpacking_known(bench: Bench, way: Way) -> None:
    """As it is after the sibling was unpacked: its files are known."""
    before_unpacking(bench, way.target)
    bench.run(*bench.on_machine_b(trainenv()), "inspect", str(way.archive))
    settle()


def _unpack(bench: Bench, archive: Path) -> tuple[str, ...]:
    return (*bench.on_machine_b(trainenv()), "unpack", str(archive), "-n", UNPACKED)


def _base(bench: Bench) -> Path:
    """The archive of the environment as it was."""
    way = ways_to_ship(bench)[0][0]
    if not way.archive.exists():
        bench.run(*way.pack)
    return way.archive


def changed(bench: Bench) -> Path:
    """A clone of the environment with an older numpy."""
    prefix = bench.machine_a / "envs" / CHANGED
    if not prefix.exists():
        listed = json.loads(bench.run(trainenv(), "list", "-n", ENVIRONMENT, "--json"))
        version = next(package["version"] for package in listed if package["name"] == "numpy")
        bench.run(trainenv(), "env", "clone", ENVIRONMENT, "-n", CHANGED)
        bench.run(trainenv(), "pip", "install", "-n", CHANGED, f"numpy<{version}", "-y")
    return prefix


def _changed_files(before: Path, after: Path) -> Iterator[str]:
    """The files of ``after`` that ``before`` has not, or with another content than the prefix makes it."""
    old, new = os.fsencode(before), os.fsencode(after)
    for folder, _, names in os.walk(after):
        for name in sorted(names):
            file = Path(folder, name)
            former = before / file.relative_to(after)
            if file.is_symlink() or (former.exists() and former.samefile(file)):
                continue
            if not former.exists() or former.read_bytes().replace(old, b"") != file.read_bytes().replace(new, b""):
                yield str(file.relative_to(after))


def _before_packing(bench: Bench, output: Path) -> None:
    output.unlink(missing_ok=True)
    (bench.machine_a / "cache" / "contents.sqlite").unlink(missing_ok=True)
    shutil.rmtree(bench.folder / "places", ignore_errors=True)
    (bench.folder / "places").mkdir()
    settle()
