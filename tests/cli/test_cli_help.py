"""`--help` and `--version`: their output, and that they are quick because they import nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

import rankselect as rs

PROFILE = """MODEL --data --text --field --skip-faulty-rows --max-samples --max-length --estimator --pooling --tolerance --seed --batch-size
    --dtype --quantization --device-map --trust-remote-code --out --plot --no-progress Texts Measurement Model Output"""
PLAN = """MODEL --strategy --profile --target-modules --alpha-ratio --min-rank --max-rank --trust-remote-code --out
    --format json|peft|axolotl Ranks Model Output"""


@pytest.mark.parametrize(
    ("command", "mentions"),
    [
        ((), "profile plan train evaluate merge export study strategies estimators metrics --version --debug"),
        (
            ("train",),
            "MODEL --data --eval-data --question --answer --text --skip-faulty-rows --strategy --plan --profile --quantization --resume --out --json Ranks Training",
        ),
        (
            ("evaluate",),
            "MODEL --adapter --data --question --answer --text --skip-faulty-rows --metric --max-new-tokens --dropout --quantization --out --json Scores",
        ),
        (("merge",), "ADAPTER --out --onto --base --quantization --dtype --check-texts --max-shard-size --json"),
        (("export",), "ADAPTER --for --out --json vllm llama.cpp sglang any"),
        (
            ("study",),
            "MODEL --train --test --question --answer --text --skip-faulty-rows --arm --seeds --learning-rates --metric --out --executor --json",
        ),
        (("metrics",), "rankselect.metrics"),
        (("profile",), PROFILE),
        (("plan",), PLAN),
        (("strategies",), "rankselect.strategies"),
        (("estimators",), "rankselect.estimators"),
    ],
)
@pytest.mark.parametrize("width", ["80", "120"])
def test_help_names_every_option(run, monkeypatch, command, mentions, width):
    monkeypatch.setenv("COLUMNS", width)
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert [word for word in mentions.split() if word not in result.stdout] == []
    assert max(map(len, result.stdout.splitlines())) <= int(width)


@pytest.mark.parametrize(
    ("command", "default"),
    [("profile", "profile.json"), ("plan", "8.0"), ("train", "per-layer-id"), ("evaluate", "128")],
)
def test_help_has_an_example_and_defaults(run, command, default):
    text = run(command, "--help").stdout
    assert f"rankselect {command} Qwen/Qwen3-0.6B" in text
    assert f"[default: {default}]" in text


def test_version(run):
    assert run("--version").stdout == f"rankselect {rs.__version__}\n"


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from rankselect.cli import main; sys.argv = ['rankselect', 'profile', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'peft', 'numpy', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
