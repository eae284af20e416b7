"""A small but complete study
==========================

To find out which ranks are best, you have to train with them. This page runs a complete study: arms, seeds, answers to
held-out questions, differences with intervals, and a verdict in words. It is only large enough for a demonstration.
"""

import json
import math
import shutil
import tempfile
import textwrap
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from transformers.utils.logging import disable_progress_bar

import rankselect as rs

disable_progress_bar()
torch.set_num_threads(1)  # the matrices are too small to gain from more

# %%
# The data and the base model
# ---------------------------
#
# The included questions and answers are split by medical condition into three parts: for the base model, for the
# adapters, and for the test. The base model is a small one that is trained here for a few seconds.

folder = Path(tempfile.mkdtemp())
pairs = rs.medical_qa()
conditions = sorted({pair.condition for pair in pairs})
known = [name for number, name in enumerate(conditions) if number % 5]
parts = {"base": known[::2], "train": known[1::2], "test": conditions[::5]}
for part, names in parts.items():
    rows = [pair for pair in pairs if pair.condition in names]
    lines = [json.dumps({"question": row.question, "answer": row.answer}) for row in rows]
    (folder / f"{part}.jsonl").write_text("\n".join(lines), encoding="utf-8")

texts = [pair.text for pair in pairs if pair.condition in parts["base"]]
model, tokenizer = rs.small_phi(steps=40, texts=texts, progress=False)
model.save_pretrained(folder / "model")
tokenizer.save_pretrained(folder / "model")

# %%
# The arms
# --------
#
# The study compares the base model without an adapter, one small rank for all modules, each layer's own intrinsic
# dimension, and a control for the latter: one rank for all layers with as many parameters. If ``by-layer`` does not
# beat its control, the study has not shown that the differences between layers matter.

arms = (
    rs.Arm("base"),
    rs.Arm("rank-2", rs.Fixed(2)),
    rs.Arm("by-layer", rs.PerLayerID()),
    rs.Arm("by-layer-control", rs.SameParameters(rs.PerLayerID())),
)
config = rs.StudyConfig(
    model=str(folder / "model"),
    train=str(folder / "train.jsonl"),
    test=str(folder / "test.jsonl"),
    arms=arms,
    seeds=(0, 1),
    metrics=("perplexity", "token-f1"),
    target_modules=("q_proj", "v_proj"),
    learning_rates=(1e-2,),  # a real study selects from a grid for each arm
    n_train=160,
    n_test=12,
    max_steps=10,
    batch_size=4,
    max_length=128,
    max_new_tokens=20,
    generation_batch_size=12,
    device_map="cpu",
)

# %%
# Run it
# ------
#
# The study has one training run for each arm and seed. Each run has its own result file. The test questions are used
# only for scoring, not for any choice.


def run() -> int:
    """Run the missing parts of the study and return the number of runs."""
    before = written()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rs.Study(config, folder / "study").run(progress=False)
    for each in caught:
        if issubclass(each.category, rs.RankSelectWarning):
            print(textwrap.fill(f"Warning: {each.message}", 84))
    return len(written() - before)


def written() -> set[tuple[str, int]]:
    """Return the result files of the runs with their modification times."""
    files = (folder / "study" / "units").glob("*.json")
    return {(file.name, file.stat().st_mtime_ns) for file in files}


print(f"The first call executed {run()} runs.")

# %%
# Resuming a study
# ----------------
#
# A second call does not repeat completed runs. To simulate an interruption, the code deletes the file of one run: then
# only this run is executed again.

print(f"The second call executed {run()} runs.")

last = max((folder / "study" / "units").glob("*.json"))
last.unlink()
print(f"Without {last.name}, the next call executed {run()}.")

# %%
# Scores
# ------
#
# Each row is the mean over the seeds. Perplexity measures how improbable the reference answers are under the model;
# lower is better. Token F1 measures the overlap of words between generated and reference answers; higher is better.

results = rs.StudyResults.load(folder / "study")
columns = ["arm", "rank_mean", "trainable_parameters", *results.metrics]
summary = results.summary[columns].astype({"trainable_parameters": int})
print(summary.to_string(index=False, float_format="{:.3g}".format, na_rep="-"))

# %%
# Differences, with intervals
# ---------------------------
#
# All arms answered the same questions, so they are compared question by question and seed by seed. The baseline is
# the control.

control = "by-layer-control"
tables = {metric: results.differences(metric, control) for metric in results.metrics}
for metric, table in tables.items():
    print(f"\n{metric}, against {control}")
    columns = ["arm", "difference", "low", "high", "p_adjusted", "outcome"]
    print(table[columns].to_string(index=False, float_format="{:.3g}".format))

# %%
# An interval that contains zero shows no difference.

figure, panels = plt.subplots(1, len(tables), figsize=(9.5, 3), sharey=True)
figure.set_layout_engine("constrained")
for ax, (metric, table) in zip(panels, tables.items(), strict=True):
    errors = [table["difference"] - table["low"], table["high"] - table["difference"]]
    ax.axvline(0, color="black", lw=1)
    ax.errorbar(table["difference"], table["arm"], xerr=errors, fmt="o", capsize=4)
    better = "higher" if results.metrics[metric].higher_is_better else "lower"
    ax.set(title=f"{metric} ({better} is better)", xlabel=f"difference from {control}")
    ax.margins(y=0.25)
    ax.spines[["top", "right"]].set_visible(False)
panels[0].invert_yaxis()
plt.show()

# %%
# The verdict
# -----------
#
# The first metric decides. Among the arms that are not shown to be worse than the best one, the verdict recommends the
# one with the fewest trainable parameters. It also lists reasons and caveats.

for line in str(results.verdict()).splitlines():
    print(textwrap.fill(line, 84, subsequent_indent="  "))

# %%
# What this study can show
# ------------------------
#
# It shows how to run a study, but nothing about ranks: there are too few seeds, questions and steps for that. The
# results include the smallest difference that a study of this size could show:

print(f"{len(config.training_seeds)} seeds, {len(results.rows)} questions,", end=" ")
print(f"{config.max_steps} steps of {config.batch_size} rows.")
for metric, table in tables.items():
    row = table[table["arm"] == "by-layer"].iloc[0]
    print(f"\n{metric} of by-layer against its control: {row['difference']:+.3g}.", end=" ")
    print(f"Result: {row['outcome']}.")
    if math.isfinite(row["detectable"]):
        print(f"A difference of {row['detectable']:.2g} would be shown with 80 % power.")
    else:
        print("No score differs, so the detectable difference is unknown.")

# %%
# :doc:`/study` describes how to run a study of a useful size. ``rs.write_report(results)`` writes these results, and
# more, to a page to open in a browser.

shutil.rmtree(folder)
