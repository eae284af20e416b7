"""Control tokens: a template's own words may make them, what users write may not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["GUARD", "ControlTokens"]

GUARD = "\ufdd0"
"""Stands in a text where a control token of user text is broken in two: Unicode's permanently unassigned character."""

_BEFORE = "\n"  # a text that continues another is tokenised after this one


@final
class ControlTokens:
    """Turns texts into token ids in which user text makes no control token.

    Control tokens are the tokenizer's special tokens, and its other added tokens that the template writes itself (in
    some chat models ``<|im_start|>`` is not marked as special). `guard` breaks them in user text, `ids` tokenises the
    pieces one after the other. Text without control tokens is tokenised as the tokenizer does it.

    Args:
        tokenizer: A transformers tokenizer, fast or slow.
        words: The template's own words.

    Example:
        >>> from rankselect.testing import tiny_tokenizer
        >>> tokenizer = tiny_tokenizer()
        >>> control = ControlTokens(tokenizer)
        >>> tokenizer.convert_ids_to_tokens(control.ids(["<s> pain " + control.guard("<s> fever")])[0])
        ['<s>', 'pain', '<unk>', '<unk>', '<unk>', 'fever']
    """

    def __init__(self, tokenizer: Any, words: str = "") -> None:
        self._tokenizer = tokenizer
        added = getattr(tokenizer, "added_tokens_decoder", {}).values()
        named = getattr(tokenizer, "all_special_tokens", [])
        texts = {str(text) for text in named} | {each.content for each in added if each.special}
        texts |= {each.content for each in added if each.content.strip() and each.content in words}
        # longest first, and none of a single character, which cannot be broken
        ordered = sorted((text for text in texts if len(text) > 1), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered)) or r"(?!)")

    def guard(self, text: str) -> str:
        """User text, with a mark inside everything that would be a control token."""
        guarded = self._pattern.sub(_broken, text.replace(GUARD, ""))
        while guarded != text:
            text, guarded = guarded, self._pattern.sub(_broken, guarded)
        return text

    def ids(self, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
        """The token ids of texts with marks.

        Args:
            texts: The template's words and guarded user text.
            special: Whether the tokenizer adds the special tokens that it starts a text with. One that it puts at the
                end is left out.
        """
        pieces = [text.split(GUARD) for text in texts]
        rows = self._plain([first for first, *_ in pieces], special=special)
        for row, (first, *rest) in zip(rows, pieces, strict=True):
            if special and row[-1:] == [self._tokenizer.eos_token_id] and not self._ends_itself(first):
                del row[-1]
            row.extend(token for piece in rest for token in self._continued(piece))
        return rows

    def found_in(self, text: str) -> list[str]:
        """The control tokens in a text, in their order."""
        return self._pattern.findall(text)

    def id_at_start(self, text: str) -> int | None:
        """The id of the control token that a text begins with; None if it begins with none."""
        found = self._pattern.match(text)
        return None if found is None else int(self._tokenizer.convert_tokens_to_ids(found[0]))

    def _continued(self, text: str) -> list[int]:
        """The ids of a text that continues another: alone, many vocabularies would put a space before it."""
        [head, whole, alone] = self._plain([_BEFORE, _BEFORE + text, text])
        return whole[len(head) :] if whole[: len(head)] == head else alone

    def _plain(self, texts: Iterable[str], *, special: bool = False) -> list[list[int]]:
        # verbose=False: the tokenizer need not warn of long texts, which are cut here
        encoded = self._tokenizer(list(texts), add_special_tokens=special, verbose=False)
        return [list(ids) for ids in encoded["input_ids"]]

    def _ends_itself(self, text: str) -> bool:
        end = getattr(self._tokenizer, "eos_token", None)
        return isinstance(end, str) and text.endswith(end)


def _broken(found: re.Match[str]) -> str:
    """A control token with the mark after its first signs (``</`` and ``s>``), where most vocabularies split it."""
    text = found[0]
    signs = re.match(r"[\W_]+(?=.)", text)
    after = signs.end() if signs else 1
    return f"{text[:after]}{GUARD}{text[after:]}"
