"""`python -m tests.laws.fuzz`: run many random programs. Each that fails is written to a folder, with its seed."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from tqdm import tqdm

from tests.laws.fuzz.program import program
from tests.laws.fuzz.run import BROKEN, FAILED, PASSED, Outcome, minimal, run


def main() -> int:
    options = arguments()
    torch.set_num_threads(1)
    if options.only is not None:
        return one(options.only)
    seeds = range(options.seed, options.seed + options.programs)
    counts: Counter[str] = Counter()
    share = 0.0
    with tqdm(total=len(seeds), unit="program", mininterval=0.1 if sys.stderr.isatty() else 60) as bar:
        for outcome in outcomes(seeds, options.jobs):
            counts[outcome.kind] += 1
            share += outcome.share
            if outcome.kind != PASSED:
                tqdm.write(outcome.headline)
                sys.stdout.flush()
                report(outcome, options.out)
            bar.set_postfix(counts, refresh=False)
            bar.update()
    print(f"{dict(counts)}; {share / max(1, counts[PASSED]):.1%} of the parameters are elastic, on average")
    return int(counts[FAILED] + counts[BROKEN] > 0)


def outcomes(seeds: Iterable[int], jobs: int) -> Iterator[Outcome]:
    if jobs < 2:
        yield from map(run, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, torch.set_num_threads, (1,), maxtasksperchild=500) as pool:
        yield from pool.imap_unordered(run, seeds, chunksize=4)


def one(seed: int) -> int:
    """Run one seed again, with as few pieces as it still fails with, and print it."""
    outcome = run(seed)
    outcome = outcome if outcome.kind == PASSED else minimal(outcome)
    print(program(outcome.recipe).source, outcome.trace, outcome.headline, outcome.message, sep="\n")
    return int(outcome.kind in (FAILED, BROKEN))


def report(outcome: Outcome, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(f"# {line}" for line in (outcome.headline, *outcome.trace.splitlines()[-30:]))
    file = folder / f"{outcome.kind}_{outcome.recipe.seed}.py"
    file.write_text(f"{text}\n{program(outcome.recipe).source}", encoding="utf-8")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.laws.fuzz", description=__doc__)
    parser.add_argument("--programs", type=int, default=200, help="how many (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="of the first program; each has the next (default: 0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--only", type=int, metavar="SEED", help="run this one, and print its source and what fails")
    parser.add_argument("--out", type=Path, default=Path("fuzzed"), help="where programs that fail are written to")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
