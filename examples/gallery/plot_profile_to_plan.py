"""From a model and texts to ranks
===============================

How many dimensions do your texts take up in each layer of a model, and which LoRA ranks follow from it? This page goes
the whole way: a profile with error bars, a plan, a config for PEFT, and a check that PEFT built what was planned.
"""

import textwrap
import warnings

import matplotlib.pyplot as plt
import numpy as np
from peft import get_peft_model

import rankselect as rs

warnings.simplefilter("ignore", FutureWarning)  # news for their developers

# %%
# A model and its texts
# ---------------------
#
# Load your own model as you would for training, and take texts like those that you will train on. Here, a small model
# of Phi's architecture is trained for some seconds on the questions and answers that come with the library.

model, tokenizer = rs.small_phi(steps=60, progress=False)
texts = [pair.text for pair in rs.medical_qa()]

layers = rs.layer_names(model)
print(f"{len(layers)} layers of width {model.config.hidden_size}")
print(f"{len(texts):,} texts, of which the first is:\n")
print(textwrap.fill(texts[0], 80))

# %%
# The profile
# -----------
#
# Each text becomes one point in each layer: the layer's output, averaged over the text's tokens. The intrinsic
# dimension (ID) of a layer is the number of directions in which these points really differ.

profile = rs.id_profile(model, tokenizer, texts, progress=False)

figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
profile.plot(ax=ax)
plt.show()

# %%
# The bars are 95 % intervals: so far would an ID move with other texts of the same kind. The same, in a terminal:

print(profile)

# %%
# Do the layers differ?
# ---------------------
#
# Ask this before you give layers different ranks. The intervals answer it for two layers, the agreement of two halves
# of the texts for the order of all of them.

low, high = np.array(profile.intervals).T
least, greatest = int(profile.values.argmin()), int(profile.values.argmax())
for what, at in (("Least", least), ("Greatest", greatest)):
    interval = f"{low[at]:.1f} to {high[at]:.1f}"
    print(f"{what} ID: {profile.values[at]:.1f} in layer {at}, interval {interval}")
overlap = "overlap" if low[greatest] <= high[least] else "do not overlap"
print(f"These two intervals {overlap}.")

if profile.measurement is not None:
    agreement = profile.measurement.order_agreement
    print(f"\nTwo halves agree on the order to {agreement:.2f}, where 1 is all.")
    if agreement >= 0.8:
        print("The order of the layers is settled.")
    else:
        print("It is not settled: take more texts, or one rank for all (IntrinsicMean).")

# %%
# The plan
# --------
#
# A strategy turns the profile into ranks. ``PerLayerID`` gives each module the ID of its layer, rounded. Alpha is the
# rank times ``alpha_ratio``, so that the scale of the update is the same at each rank.

strategy = rs.PerLayerID()
targets = ["q_proj", "v_proj"]
plan = strategy.plan(model, profile, target_modules=targets, alpha_ratio=2.0)
print(plan)

# %%
# Each rank is where the ID is, and is no better known than it:

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
# PEFT takes the plan as a ``LoraConfig``: the commonest rank is ``r``, each other one is an exact pattern. From here on
# you need your own trainer only.

config = plan.to_lora_config(task_type="CAUSAL_LM", lora_dropout=0.05)
print(f"r = {config.r}")
for pattern, rank in (config.rank_pattern or {}).items():
    print(f"rank {rank}: {pattern}")

# %%
# ``verify`` raises an error unless PEFT built exactly this plan: each module, rank, alpha and scaling, and nothing
# besides.

peft_model = get_peft_model(model, config)
plan.verify(peft_model)

print(f"PEFT built {len(plan.ranks)} adapters, as planned.")
percent = f"{plan.trainable_percentage:.2f} % of all"
print(f"They train {plan.trainable_parameters:,} parameters, {percent}.")

# %%
# What this does not tell is whether these ranks train *better* than others. That is a question for :doc:`a study
# </gallery/plot_study>`; what else there is to choose from is on the page about :doc:`strategies
# </gallery/plot_strategies>`.
