"""A study, small but real
=======================

Which ranks are worth it is decided by training with them. This page runs a whole study: arms, seeds, answers to
questions that were held out, differences with intervals, and a verdict in words. It has the size of a demonstration,
and says so.
"""

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
from rankselect.study.rows import embedded_rows

disable_progress_bar()
torch.set_num_threads(1)  # the matrices are too small to gain from more

# %%
# The base model
# --------------
#
# Instead of a model that was downloaded: a small one, trained for some seconds on a part of the embedded questions
# and answers; the adapters will train on another, and the test is a third.

folder = Path(tempfile.mkdtemp())
template = rs.PromptTemplate()
known = embedded_rows("base")
texts = [template.text(row.question, row.answer) for row in known]
model, tokenizer = rs.small_phi(steps=40, texts=texts, progress=False)
model.save_pretrained(folder / "model")
tokenizer.save_pretrained(folder / "model")

# %%
# What is compared
# ----------------
#
# The base model without an adapter, one small rank for all modules, each layer's own intrinsic dimension, and the
# control of that: as many parameters, in one rank for all. If ``by-layer`` does not beat its control, it is not the
# layers that matter.

arms = (
    rs.Arm("base"),
    rs.Arm("rank-2", rs.Fixed(2)),
    rs.Arm("by-layer", rs.PerLayerID()),
    rs.Arm("by-layer-control", rs.SameParameters(rs.PerLayerID())),
)
config = rs.StudyConfig(
    model=str(folder / "model"),
    train="medical-qa",
    test="medical-qa",
    arms=arms,
    seeds=(0, 1),
    metrics=("perplexity", "token-f1"),
    target_modules=("q_proj", "v_proj"),
    learning_rates=(1e-2,),  # a real study has a grid, and chooses from it for each arm
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
# Each training is a run with a file of its own: of each arm with each seed. The test decides nothing, it is for
# scoring only.


def run() -> int:
    """Do what is missing of the study, and count the runs that this took."""
    before = written()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rs.Study(config, folder / "study").run(progress=False)
    for each in caught:
        if issubclass(each.category, rs.RankSelectWarning):
            print(textwrap.fill(f"Warning: {each.message}", 84))
    return len(written() - before)


def written() -> set[tuple[str, int]]:
    """The runs' files, with the time when each was written."""
    files = (folder / "study" / "units").glob("*.json")
    return {(file.name, file.stat().st_mtime_ns) for file in files}


print(f"The first call did {run()} runs.")

# %%
# It goes on where it stopped
# ---------------------------
#
# Run again, a study does nothing twice. As if it had been stopped before its end, one run's file is taken away: then
# this run is done, and no other.

print(f"Called again, it did {run()} runs.")

last = max((folder / "study" / "units").glob("*.json"))
last.unlink()
print(f"Without {last.name}, it did {run()}.")

# %%
# What came out
# -------------
#
# Each row is the mean over the seeds. Perplexity is better if lower: it says how well the model expects the right
# answers. Token F1 is better if higher: it says how many words of the answers that the model wrote are right.

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
# An interval that crosses the line shows no difference.

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
# The first metric decides. Of all arms that are not shown to be worse than the best one, the verdict names the one
# with the fewest trainable parameters, and it brings its reasons and caveats along.

for line in str(results.verdict()).splitlines():
    print(textwrap.fill(line, 84, subsequent_indent="  "))

# %%
# What this shows, and what not
# -----------------------------
#
# It shows the way, and nothing about ranks: for that, seeds, questions and steps are too few. The study says itself
# what it would have taken:

print(f"{len(config.training_seeds)} seeds, {len(results.rows)} questions,", end=" ")
print(f"{config.max_steps} steps of {config.batch_size} rows.")
for metric, table in tables.items():
    row = table[table["arm"] == "by-layer"].iloc[0]
    print(f"\n{metric} of by-layer against its control: {row['difference']:+.3g}.", end=" ")
    print(f"Here: {row['outcome']}.")
    if math.isfinite(row["detectable"]):
        print(f"Four of five such studies would show a difference of {row['detectable']:.2g}.")
    else:
        print("No score differs, so what could have been shown is not known.")

# %%
# How to run one of the right size is on the page :doc:`/study`. ``rs.write_report(results)`` writes all of this, and
# more, as a page to open in a browser.

shutil.rmtree(folder)
