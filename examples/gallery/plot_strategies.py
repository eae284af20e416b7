"""All strategies on one profile
=============================

Each strategy turns the same profile into different ranks. This page shows the rank of each layer under each strategy,
the number of trainable parameters, and the controls that test whether a gain is due to the strategy.
"""

import inspect
import textwrap

import matplotlib.pyplot as plt
import numpy as np

import rankselect as rs

# %%
# One profile for all
# -------------------
#
# A small model is trained for a few seconds on the questions and answers included with the library, and profiled on the
# same texts. The profile also has the intrinsic dimension (ID) of the first layer's input, because ``GeLoRA`` uses the
# growth of the ID from layer to layer.

model, tokenizer = rs.small_phi(steps=60, progress=False)
texts = [pair.text for pair in rs.medical_qa()]
profile = rs.id_profile(model, tokenizer, texts, progress=False)

entering = list(profile.input_values.values())
print("ID of the input of the first layer:", *(f"{value:.1f}" for value in entering))
print("ID of the output of each layer:", *(f"{value:.1f}" for value in profile.values))

# %%
# The strategies
# --------------
#
# ``rs.strategy`` creates a strategy from its name, with arguments after a colon. A control wraps another strategy, here
# ``per-layer-id``, and rearranges its ranks. ``rankselect strategies`` lists all names, including installed plug-ins.

STRATEGIES = (
    "fixed:rank=8",
    "gelora",
    "intrinsic-max",
    "intrinsic-mean",
    "intrinsic-min",
    "per-layer-id",
)
CONTROLS = (
    "same-parameters:strategy=per-layer-id",
    "shuffled:strategy=per-layer-id,seed=1",
    "tilted:strategy=per-layer-id,towards=early",
)

plain = {each.partition(":")[0]: rs.strategy(each) for each in STRATEGIES}
controls = {each.partition(":")[0]: rs.strategy(each) for each in CONTROLS}

for name, strategy in (plain | controls).items():
    meaning = (inspect.getdoc(type(strategy)) or "").split("\n\n")[0].replace("`", "")
    print(textwrap.fill(f"{name:16} {meaning}", 84, subsequent_indent=17 * " "))

# %%
# The rank in each layer
# ----------------------

ranks, parameters = {}, {}
for name, strategy in (plain | controls).items():
    plan = strategy.plan(model, profile, target_modules=["q_proj", "v_proj"])
    of_layer = {module.target.layer: module.rank for module in plan.modules}
    ranks[name] = np.array(list(of_layer.values()))
    parameters[name] = plan.trainable_parameters

table, rows = np.array(list(ranks.values())), np.arange(len(ranks))
figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.6), width_ratios=[3, 1.3])
figure.set_layout_engine("constrained")
left.imshow(table, cmap="Blues", vmin=0, vmax=1.6 * table.max(), aspect="auto")
for (row, layer), rank in np.ndenumerate(table):
    left.text(layer, row, str(rank), ha="center", va="center")
left.set(title="rank", xlabel="layer", xticks=range(table.shape[1]))
left.set_yticks(rows, list(ranks))
bars = right.barh(rows, list(parameters.values()), color="#6baed6", height=0.6)
right.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=9)
right.set(title="trainable parameters", xticks=[], yticks=[], ylim=left.get_ylim())
right.set_xlim(0, 1.4 * max(parameters.values()))
for ax in (left, right):
    ax.axhline(len(plain) - 0.5, color="black", lw=1)  # controls are below
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
plt.show()

# %%
# The controls are below the line. Strategies with different numbers of parameters cannot show *where* rank is useful: a
# comparison between them mostly compares sizes.

few, *_, many = sorted(plain, key=lambda name: parameters[name])
times = parameters[many] / parameters[few]
print(f"{many} trains {times:.1f} times as many parameters as {few}.")

mean = ranks["intrinsic-mean"]
apart = np.abs(ranks["per-layer-id"] - mean).max()
print(f"per-layer-id differs from intrinsic-mean ({mean[0]}) by at most {apart}.")

grows = int((np.diff([*entering, *profile.values]) > 0).sum())
print(f"The ID grows across {grows} of {len(profile.layers)} layers.")
print("Where it does not grow, gelora gives rank 1.")

# %%
# What a control removes
# ----------------------
#
# A control keeps the number of parameters, as closely as integer ranks allow. ``same-parameters`` removes the
# differences between layers, ``shuffled`` removes the assignment of ranks to layers, and ``tilted`` removes everything
# except a slope over depth. A rank per layer is useful only if it trains better than these controls.

figure, panels = plt.subplots(1, len(controls), figsize=(9.5, 3.4), sharey=True)
figure.set_layout_engine("constrained")
for ax, name in zip(panels, controls, strict=True):
    ax.plot(ranks["per-layer-id"], "o-", color="#999999", ms=4, label="per-layer-id")
    ax.plot(ranks[name], "s-", color="#d95f02", ms=4, label="control")
    ax.set(title=name, xlabel="layer", xticks=range(table.shape[1]))
    ax.grid(visible=True, axis="y", alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
panels[0].set(ylabel="rank", ylim=(0, 1.1 * max(ranks[name].max() for name in controls)))
panels[0].legend(frameon=False, loc="lower left")
plt.show()

for name in controls:
    more = parameters[name] - parameters["per-layer-id"]
    print(f"{name:16} {more:+,} parameters relative to per-layer-id")

# %%
# :doc:`/choosing` recommends a first strategy; :doc:`a study </gallery/plot_study>` compares strategies in training.
