"""Mutation testing: mutmut introduces small faults into a room (subpackage), and the tests of that room must fail.

A fault ("mutant") that no test detects is a survivor. All rooms take hours; to run some of them:

    python benchmarks/mutants.py estimators plan

The survivors and their diffs are written to build/mutants/ROOM.txt. `--survivors` runs only the survivors of the last
run and the mutants that it did not reach, against all tests of the files that reach them: use it to try new tests.
`--sample N` runs a random sample of N mutants, for a room whose tests are too slow for all of them.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import libcst
from mutmut.mutation.diff_apply import get_diff_for_mutant, read_functions_from_index
from mutmut.stats import status_by_exit_code

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "mutants"
DONE = ("killed", "timeout")


@dataclass(frozen=True)
class Room:
    """A folder of sources, and the tests that must detect the faults in it."""

    sources: tuple[str, ...]
    tests: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    def files(self) -> list[str]:
        """Return the source files to mutate."""
        found = [path for pattern in self.sources for path in sorted(ROOT.glob(f"src/rankselect/{pattern}"))]
        return [str(path.relative_to(ROOT)) for path in found if path.name not in self.left_out]


ROOMS = {
    "estimators": Room(("estimators/*.py",), ("tests/estimators",)),
    "strategies": Room(("strategies/*.py",), ("tests/strategies",)),
    "plan": Room(("plan/*.py",), ("tests/plan",)),
    "data": Room(("data/*.py",), ("tests/data",)),
    # Only those tests of degenerate studies that write no report: reports and figures take most of the time.
    "study/analysis": Room(
        ("study/analysis/*.py",),
        ("tests/study/analysis",
         "tests/study/test_degenerate_studies.py::test_scores_that_tie_are_said_to_tie",
         "tests/study/test_degenerate_studies.py::test_another_metric_decides_where_the_first_ties",
         "tests/study/test_degenerate_studies.py::test_two_arms_alike_are_said_to_be_and_the_others_are_compared"),
    ),
    "study": Room(
        ("study/*.py",),
        ("tests/study/test_base_model.py", "tests/study/test_config.py", "tests/study/test_judging.py",
         "tests/study/test_study.py", "tests/study/test_study_rows.py", "tests/study/test_work.py"),
        left_out=("ray_executor.py",),
    ),
}  # fmt: skip


class _WithoutWords(ast.NodeTransformer):
    """Remove the text from a function: messages of errors, warnings and logs, and its docstring."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        called = ast.unparse(node.func)
        self.generic_visit(node)
        if called == "warnings.warn":  # keep the class of the warning; stacklevel only sets the line that is shown
            category = [value for value in node.args[1:] if not isinstance(value, ast.Constant)]
            return ast.Call(node.func, category, [])
        if called.startswith("logger.") or called.rpartition(".")[2].endswith("Error"):
            return ast.Call(node.func, [], [])
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return ast.Pass()
        return self.generic_visit(node)


def _words_only(name: str, path: str) -> bool:
    functions = read_functions_from_index(name, path)
    if functions is None:
        return False
    kept = []
    for function in functions:
        tree = ast.parse(libcst.Module([function]).code.strip())
        kept.append(ast.dump(_WithoutWords().visit(tree)))
    return kept[0] == kept[1]


def _prepare(room: Room, folder: Path) -> None:
    """Copy the project, with the room's sources and tests in pyproject.toml."""
    for part in ("src", "tests"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, folder / part, dirs_exist_ok=True, ignore=ignore)
    for part in ("README.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy2(ROOT / part, folder / part)
    table = "[tool.mutmut]\n"
    text = (ROOT / "pyproject.toml").read_text()
    of_the_room = f"only_mutate = {json.dumps(room.files())}\n"
    of_the_room += f"pytest_add_cli_args_test_selection = {json.dumps(room.tests)}\n"
    (folder / "pyproject.toml").write_text(text.replace(table, table + of_the_room))


def _codes(room: Room, folder: Path) -> dict[str, tuple[str, int | None]]:
    """Return the file of each mutant and the exit code of its tests."""
    found = {}
    for path in room.files():
        meta = folder / "mutants" / f"{path}.meta"
        codes = json.loads(meta.read_text())["exit_code_by_key"] if meta.exists() else {}
        found.update({name: (path, code) for name, code in codes.items()})
    return found


def _mutmut(folder: Path, mutants: list[str]) -> int:
    """Run these mutants, or all of them; return the exit status."""
    environment = {**os.environ, "HYPOTHESIS_PROFILE": "mutants", "OMP_NUM_THREADS": "1"}
    command = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", "1", *mutants]
    with (folder / "mutmut.log").open("w") as log:
        done = subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False)
    return done.returncode


def _widen(folder: Path) -> None:
    """Assign a function to all tests of a file that reaches it.

    mutmut attributes the code that a module's fixture runs only to the first test that uses the fixture, although the
    other tests check its results too.
    """
    path = folder / "mutants" / "mutmut-stats.json"
    stats = json.loads(path.read_text())
    tests_of: dict[str, set[str]] = {}
    for test in stats["duration_by_test"]:
        tests_of.setdefault(test.partition("::")[0], set()).add(test)
    reached = stats["tests_by_mangled_function_name"]
    for function, tests in reached.items():
        reached[function] = sorted(set().union(*(tests_of[test.partition("::")[0]] for test in tests), tests))
    path.write_text(json.dumps(stats))


def _drawn(room: Room, folder: Path, n: int) -> list[str]:
    """Return a random sample of a room's mutants; mutmut lists all of them before it looks up the requested ones."""
    _mutmut(folder, ["rankselect.no_such_fault"])
    names = sorted(_codes(room, folder))
    return random.Random(0).sample(names, min(n, len(names)))


def _run(name: str, *, only_survivors: bool, sample: int | None) -> dict[str, object]:
    """Run the mutants of one room; return the counts for the table."""
    room, folder = ROOMS[name], WORK / name.replace("/", "-")
    again: list[str] = []
    if only_survivors:
        _widen(folder)
        codes = {key: code for key, (_, code) in _codes(room, folder).items() if sample is None or code is not None}
        again = [key for key, code in codes.items() if status_by_exit_code[code] not in DONE]
    elif folder.exists():
        shutil.rmtree(folder)
    _prepare(room, folder)
    if sample is not None and not only_survivors:
        again = _drawn(room, folder, sample)
    if (again or not only_survivors) and (status := _mutmut(folder, again)):
        sys.exit(f"mutmut ended with {status}: see {folder / 'mutmut.log'}")
    counts: Counter[str] = Counter()
    survivors = []
    os.chdir(folder)  # mutmut reads its results from the current folder
    for mutant, (path, code) in _codes(room, folder).items():
        status = status_by_exit_code[code]
        if status in ("survived", "no tests"):
            status = "words only" if _words_only(mutant, path) else status
            survivors.append((status, mutant, get_diff_for_mutant(mutant, path=path)))
        counts[status] += 1
    with (WORK / f"{folder.name}.txt").open("w") as file:
        for status, mutant, diff in sorted(survivors):
            file.write(f"# {mutant}: {status}\n{diff}\n\n")
    noticed = counts["killed"] + counts["timeout"] + counts["segfault"]
    counted = counts.total() - counts["words only"] - counts["not checked"]
    return {
        "room": name,
        "mutants": counts.total(),
        "killed": counts["killed"] + counts["segfault"],
        "timeouts": counts["timeout"],
        "survived": counted - noticed,
        "words only": counts["words only"],
        "share noticed": f"{noticed / max(counted, 1):.1%}",
    }


def main() -> None:
    """Run the rooms in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=f"some of {', '.join(ROOMS)} (all)")
    parser.add_argument("--survivors", action="store_true", help="run only the survivors of the last run")
    parser.add_argument("--sample", type=int, metavar="N", help="run a random sample of N mutants")
    options = parser.parse_args()
    if unknown := set(options.rooms) - set(ROOMS):
        parser.error(f"expected rooms among {', '.join(ROOMS)}, got {', '.join(sorted(unknown))}")
    WORK.mkdir(parents=True, exist_ok=True)
    for place, name in enumerate(options.rooms or ROOMS):
        row = _run(name, only_survivors=options.survivors, sample=options.sample)
        if place == 0:
            print(f"| {' | '.join(row)} |\n|---|{'---:|' * (len(row) - 1)}", flush=True)
        print(f"| {' | '.join(map(str, row.values()))} |", flush=True)


if __name__ == "__main__":
    main()
