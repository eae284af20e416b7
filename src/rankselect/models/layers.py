"""The layers of a model, in any layout: where hidden states are read and to which layer a module belongs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from torch import nn

from rankselect.errors import ModelError, described

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "find_layers",
    "is_adaptable",
    "is_transposed",
    "layer_names",
    "layer_of",
    "other_towers",
    "require_model",
    "unwrapped",
    "widths",
]


def layer_names(model: nn.Module) -> tuple[str, ...]:
    """The layers of a model in order, under the names that an `IDProfile` and a `RankPlan` use.

    A layer is an element of an outermost list of blocks: ``model.layers.0`` in Llama and Phi, ``h.0`` in a GPT-2
    trunk, ``encoder.block.0`` and ``decoder.block.0`` in T5. Lists inside a layer (T5's sublayers, experts of a
    mixture) do not count. No list of names is kept, so custom models work as well as those of transformers.

    Args:
        model: Any model. Wrappers (PEFT, `torch.compile`, data parallel) are ignored, so that a model has the
            same layer names before and after an adapter is put on.

    Returns:
        The full module names; empty if the model has no list of blocks.

    Example:
        >>> from torch import nn
        >>> block = lambda: nn.ModuleDict({"attention": nn.Linear(4, 4), "mlp": nn.Linear(4, 4)})
        >>> layer_names(nn.ModuleDict({"embed": nn.Embedding(9, 4), "layers": nn.ModuleList([block(), block()])}))
        ('layers.0', 'layers.1')
    """
    return tuple(find_layers(model))


def find_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Like `layer_names`, with the modules themselves: ``{name: module}`` in model order."""
    return dict(_walk(unwrapped(model), ""))


def layer_of(module_name: str, layers: dict[str, nn.Module] | tuple[str, ...]) -> str | None:
    """The layer that contains a module, or None for a module outside every layer."""
    parts = module_name.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in layers), None)


def other_towers(model: nn.Module) -> tuple[str, ...]:
    """The submodules of a generating model that do not run on texts, as full names; none in a text model.

    A multimodal config contains a config for each part. A part that is built from another one than that of the text
    reads images, audio or video. Models that do not generate (CLIP) have two equal towers, and nothing is left out.

    Example:
        >>> from rankselect.testing import tiny_model
        >>> other_towers(tiny_model())
        ()
    """
    base: Any = unwrapped(model)
    config: Any = getattr(base, "config", None)
    parts = getattr(config, "sub_configs", None)
    generates = hasattr(base, "can_generate") and base.can_generate()
    if not (parts and generates) or config.is_encoder_decoder:
        return ()
    text = config.get_text_config(decoder=True)
    others = [type(part) for name in parts if (part := getattr(config, name, None)) is not None and part is not text]
    kinds = tuple(kind for kind in others if not isinstance(text, kind) and not isinstance(config, kind))
    found: list[str] = []
    for name, module in base.named_modules():
        if any(name.startswith(f"{tower}.") for tower in found):
            continue
        if name and isinstance(getattr(module, "config", None), kinds) and next(module.parameters(), None) is not None:
            found.append(name)
    return tuple(found)


def require_model(model: object) -> None:
    """Raise an error if something else was given in place of a model: its name, its class, or another object.

    Raises:
        ModelError: If it is not a model.

    Example:
        >>> require_model("Qwen/Qwen3-0.6B")
        Traceback (most recent call last):
            ...
        rankselect.errors.ModelError: expected a model (a torch.nn.Module), got 'Qwen/Qwen3-0.6B'. Load it first, for \
example with rankselect.load_model.
    """
    if isinstance(model, nn.Module):
        return
    if isinstance(model, (str, os.PathLike)):
        got, remedy = described(model), "Load it first, for example with rankselect.load_model."
    elif isinstance(model, type):
        got, remedy = described(model), "Create an instance, or load one with rankselect.load_model."
    else:
        got, remedy = described(model), "Pass the model itself."
    raise ModelError("a model (a torch.nn.Module)", got, remedy)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside PEFT, `torch.compile` and data-parallel wrappers; an injected adapter stays in place.

    Raises:
        ModelError: If it is not a model.
    """
    require_model(model)
    while True:
        if hasattr(model, "_orig_mod"):  # torch.compile
            model = model.get_submodule("_orig_mod")
        elif isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif hasattr(model, "peft_config") and callable(getattr(model, "get_base_model", None)):
            model = model.get_base_model()  # type: ignore[operator]
        else:
            return model


def is_adaptable(module: nn.Module) -> bool:
    """Whether LoRA can be put on this very module: linear layers, quantised ones and Conv1D included."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        return True
    return is_transposed(module) or ("Linear" in type(module).__name__ and hasattr(module, "in_features"))


def is_transposed(module: nn.Module) -> bool:
    """Whether a module is a `Conv1D` of transformers: a linear layer whose weight is (d_in, d_out)."""
    return type(module).__name__ == "Conv1D"


def widths(module: Any) -> tuple[int, int]:
    """The widths of a layer's input and output, for any shape of its stored weight.

    Example:
        >>> widths(nn.Linear(3, 5)), widths(nn.Embedding(7, 2))
        ((3, 5), (7, 2))
    """
    if hasattr(module, "num_embeddings"):
        return int(module.num_embeddings), int(module.embedding_dim)
    if hasattr(module, "in_features"):  # quantized weights are stored in another shape than the layer's
        return int(module.in_features), int(module.out_features)
    d_in, d_out = module.weight.shape
    return int(d_in), int(d_out)


def _walk(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        if _is_list_of_blocks(child):
            for index, block in child.named_children():
                if isinstance(block, nn.ModuleList):  # a list has no forward pass: its elements are the layers
                    yield from _walk(nn.ModuleDict({index: block}), f"{path}.")
                else:
                    yield f"{path}.{index}", block
        else:
            yield from _walk(child, f"{path}.")


def _is_list_of_blocks(module: nn.Module) -> bool:
    """Whether a list has elements that are larger than one linear layer and contain modules that LoRA can adapt."""
    blocks = list(module.children())
    if not blocks or any(is_adaptable(block) for block in blocks):
        return False
    if isinstance(module, nn.Sequential):  # also used inside a single block: require two elements of one kind
        if len(blocks) < 2 or len({type(block) for block in blocks}) > 1:
            return False
    elif not isinstance(module, nn.ModuleList):
        return False
    return any(is_adaptable(part) for block in blocks for part in block.modules())
