"""The parts of a model that read no text: the towers for images, audio and video of a multimodal language model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rankselect.models.layers import unwrapped

if TYPE_CHECKING:
    from torch import nn

__all__ = ["other_towers"]


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
