"""``python -m benchmarks``: set up, measure, write the results, leave nothing else behind."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks import bench, machine
from benchmarks.bench import Bench
from benchmarks.building import create_case, create_cold_case, install_case
from benchmarks.listing import list_case
from benchmarks.measuring import BenchmarkError, Case, Contender, measure, measure_case
from benchmarks.pushing import push_case
from benchmarks.results import EnvironmentMeasured, Results
from benchmarks.scaling import COUNTS, pack_many_case, unpack_many_case
from benchmarks.shipping import pack_case, unpack_case
from benchmarks.siblings import delta_case, delta_unpack_case, sibling_case
from benchmarks.starts import run_case, train_case

_CASES: dict[str, Callable[[Bench], Case]] = {
    "run": run_case,
    "train": train_case,
    "list": list_case,
    "create": create_case,
    "create-cold": create_cold_case,
    "install": install_case,
    "pack": pack_case,
    "unpack": unpack_case,
    "sibling": sibling_case,
    "delta": delta_case,
    "delta-unpack": delta_unpack_case,
    "push": push_case,
}
_CASES_OF_SCALING: dict[str, Callable[[Bench], Case]] = {
    f"{verb}-{count}": partial(case, count)
    for count in COUNTS
    for verb, case in (("pack", pack_many_case), ("unpack", unpack_many_case))
}
_CASES_OF_LARGE = ("pack", "unpack", "sibling", "delta", "delta-unpack", "push")
_RESULTS = Path(__file__).with_name("results")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    load = os.getloadavg()[0]
    folder = Path(os.path.realpath(tempfile.mkdtemp(prefix="trainenv-bench-", dir=options.work)))
    try:
        results = _measure(options, folder, began, load)
    except BenchmarkError as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder)
    kind = "large" if options.large else "scaling" if options.scaling else "medium"
    _write(results, "-".join([kind, *options.only]))
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="trainenv beside its peers, measured.")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of each case, instead of its own number")
    parser.add_argument(
        "--only", choices=[*_CASES, *_CASES_OF_SCALING], action="append", default=[], help="this case alone; repeatable"
    )
    parser.add_argument("--large", action="store_true", help="ship a torch environment of over 1 GB")
    parser.add_argument("--scaling", action="store_true", help="pack and unpack 1,000 to 200,000 files")
    parser.add_argument(
        "--requirement",
        dest="requirements",
        metavar="REQ",
        action="append",
        help="what to put into the environment instead of the default; repeatable; numpy must come with it",
    )
    parser.add_argument("--work", type=Path, metavar="DIR", help="work in a new folder in DIR [system's temporary one]")
    for peer in bench.PEERS:
        parser.add_argument(f"--{peer}", metavar="PATH", help=f"the program {peer} to measure beside trainenv")
    options = parser.parse_args(arguments)
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.work and not options.work.is_dir():
        parser.error(f"--work: {options.work} is not a folder")
    return options


def _measure(options: argparse.Namespace, folder: Path, began: str, load: float) -> Results:
    _tell(f"load average {load:.2f}; setting up")
    default = bench.LARGE if options.large else bench.MEDIUM
    peers = bench.find_peers({name: getattr(options, name) for name in bench.PEERS})
    made = bench.set_up(folder, options.requirements or default, peers)
    cases = _CASES_OF_SCALING if options.scaling else _CASES
    names = options.only or (_CASES_OF_LARGE if options.large else tuple(cases))
    shown = json.loads(made.run(bench.trainenv(), "env", "show", bench.ENVIRONMENT, "--json"))
    files, size = bench.extent(made.prefix)
    environment = EnvironmentMeasured(made.requirements, shown["python"], shown["packages"], files, size)
    measured = [measure_case(cases[name](made), made.variables, options.rounds, _tell) for name in names]
    floor = measure(Contender("nothing", ("true",)), made.variables).peak_memory
    return Results(began, load, floor, machine.describe(folder, peers), environment, measured)


def _write(results: Results, stem: str) -> None:
    from benchmarks.picture import draw
    from benchmarks.table import markdown

    _RESULTS.mkdir(exist_ok=True)
    picture = _RESULTS / f"{stem}.png"
    draw(results, picture)
    page = markdown(results, picture.name)
    (_RESULTS / f"{stem}.md").write_text(page)
    (_RESULTS / f"{stem}.json").write_text(json.dumps(results.to_json(), indent=1) + "\n")
    print(page)
    _tell(f"written to {_RESULTS.parent.name}/{_RESULTS.name}/{stem}.md, .png and .json")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
