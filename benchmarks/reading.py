"""Time to read and fold 100,000 rows, beside reading them with `datasets`.

python benchmarks/reading.py
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

import datasets

import rankselect as rs
from machine import describe
from rankselect.data.overlap import comparable

N, REPEATS = 100_000, 5


def with_datasets(path: Path, cache: Path) -> int:
    """Read the file with `datasets`, without an earlier cache, and look at every row."""
    rows = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(cache))
    return sum(len(row["question"]) > 0 for row in rows)


def with_rankselect(path: Path) -> int:
    """Read the file with `load_rows`, and fold every question as for finding the same questions."""
    return sum(len(comparable(row.question)) > 0 for row in rs.load_rows(path))


def main() -> None:
    """Time both in turn, and print the medians and their ratio."""
    pairs = rs.medical_qa()
    rows = [
        {"question": f"{pairs[index % len(pairs)].question} ({index})", "answer": pairs[index % len(pairs)].answer}
        for index in range(N)
    ]
    datasets.disable_progress_bars()
    seconds: dict[str, list[float]] = {"datasets": [], "rankselect": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        for repeat in range(REPEATS):
            for name, times in seconds.items():
                start = time.perf_counter()
                cache = Path(folder, f"cache{repeat}")
                n = with_datasets(path, cache) if name == "datasets" else with_rankselect(path)
                times.append(time.perf_counter() - start)
                if n != N:
                    raise SystemExit(f"{name} read {n} rows")
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print(f"\n{describe('rankselect', 'datasets')}\n")
    for name, median in medians.items():
        print(f"{name}: median {median:.2f} s for {N:,} rows")
    print(f"ratio: {medians['rankselect'] / medians['datasets']:.2f}")


if __name__ == "__main__":
    main()
