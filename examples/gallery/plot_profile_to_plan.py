"""From a model and texts to ranks
===============================

How many dimensions do your texts use in each layer of a model, and which LoRA ranks follow from that? This page shows
all steps: a profile with error bars, a plan, a config for PEFT, and a check that PEFT built the plan.
"""

import textwrap
import warnings

import matplotlib.pyplot as plt
import numpy as np
from peft import get_peft_model

import rankselect as rs

warnings.simplefilter("ignore", FutureWarning)  # for developers of other libraries

# %%
# A model and its texts
# ---------------------
#
# Load your own model as you would for training, and use texts like your training data. Here, a small model
# of Phi's architecture is trained for a few seconds on the questions and answers included with the library.

model, tokenizer = rs.small_phi(steps=60, progress=False)
texts = [pair.text for pair in rs.medical_qa()]

layers = rs.layer_names(model)
print(f"{len(layers)} layers of width {model.config.hidden_size}")
print(f"{len(texts):,} texts; the first is:\n")
print(textwrap.fill(texts[0], 80))

# %%
# The profile
# -----------
#
# Each text becomes one point in each layer: the layer's output, averaged over the text's tokens. The intrinsic
# dimension (ID) of a layer is the dimension of the set of these points.

profile = rs.id_profile(model, tokenizer, texts, progress=False)

figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
profile.plot(ax=ax)
plt.show()

# %%
# The bars are 95 % intervals: they show how much an ID would change with other texts of the same kind. In a terminal,
# ``print`` shows the same:

print(profile)

# %%
# Do the layers differ?
# ---------------------
#
# Check this before you use different ranks for the layers. The intervals answer it for two layers. The agreement of two
# halves of the texts answers it for the order of all layers.

low, high = np.array(profile.intervals).T
least, greatest = int(profile.values.argmin()), int(profile.values.argmax())
for what, at in (("Smallest", least), ("Largest", greatest)):
    interval = f"{low[at]:.1f} to {high[at]:.1f}"
    print(f"{what} ID: {profile.values[at]:.1f} in layer {at}, interval {interval}")
overlap = "overlap" if low[greatest] <= high[least] else "do not overlap"
print(f"These two intervals {overlap}.")

if profile.measurement is not None:
    agreement = profile.measurement.order_agreement
    print(f"\nTwo halves agree on the order to {agreement:.2f} (1: same order).")
    if agreement >= 0.8:
        print("The order of the layers is reliable.")
    else:
        print("It is not reliable: use more texts, or one rank for all (IntrinsicMean).")

# %%
# The plan
# --------
#
# A strategy turns the profile into ranks. ``PerLayerID`` gives each module the ID of its layer, rounded. Alpha is the
# rank times ``alpha_ratio``, so that the scale of the update is the same at every rank.

strategy = rs.PerLayerID()
targets = ["q_proj", "v_proj"]
plan = strategy.plan(model, profile, target_modules=targets, alpha_ratio=2.0)
print(plan)

# %%
# Each rank is the rounded ID of its layer, so it has the same uncertainty:

ranks = {module.target.layer: module.rank for module in plan.modules}
positions = np.arange(len(ranks))
errors = np.array([profile.values - low, high - profile.values])

figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
ax.bar(positions, list(ranks.values()), color="#9ecae1", label="rank")
points = ax.errorbar(positions, profile.values, yerr=errors, fmt="ko", ms=4, capsize=3)
points.set_label("ID, 95 % interval")
ax.set(xlabel="layer", ylabel="rank, intrinsic dimension", xticks=positions)
ax.set_ylim(0, 1.25 * high.max())
ax.spines[["top", "right"]].set_visible(False)
ax.legend(ncols=2, frameon=False, loc="upper right")
plt.show()

# %%
# The config, and the check
# -------------------------
#
# PEFT receives the plan as a ``LoraConfig``: the most common rank is ``r``, and every other rank has an exact pattern.
# After that, use your own trainer.

config = plan.to_lora_config(task_type="CAUSAL_LM", lora_dropout=0.05)
print(f"r = {config.r}")
for pattern, rank in (config.rank_pattern or {}).items():
    print(f"rank {rank}: {pattern}")

# %%
# ``verify`` raises an error unless PEFT built exactly this plan: every module, rank, alpha and scaling, and no
# others.

peft_model = get_peft_model(model, config)
plan.verify(peft_model)

print(f"PEFT built {len(plan.ranks)} adapters, as planned.")
percent = f"{plan.trainable_percentage:.2f} % of all"
print(f"They train {plan.trainable_parameters:,} parameters, {percent}.")

# %%
# This does not show whether these ranks train *better* than others. :doc:`A study </gallery/plot_study>` answers that
# question. The page about :doc:`strategies </gallery/plot_strategies>` shows the alternatives.
