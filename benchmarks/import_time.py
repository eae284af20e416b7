"""Time of `import rankselect`, and whether it loads torch.

python benchmarks/import_time.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from machine import describe

CODE = """
import sys, time
start = time.perf_counter()
import rankselect
print(time.perf_counter() - start, "torch" in sys.modules)
"""


def main() -> None:
    """Import in fresh processes and print the median."""
    inside, whole, torch_loaded = [], [], set()
    for _ in range(11):
        start = time.perf_counter()
        answer = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout.split()
        whole.append(time.perf_counter() - start)
        inside.append(float(answer[0]))
        torch_loaded.add(answer[1])
    print(f"\n{describe('rankselect')}\n")
    print(f"import rankselect: median {1000 * statistics.median(inside):.1f} ms, worst {1000 * max(inside):.1f} ms")
    print(f"whole process: median {1000 * statistics.median(whole):.1f} ms; torch loaded: {', '.join(torch_loaded)}")


if __name__ == "__main__":
    main()
