"""From texts to batches of similar length, each text once, padded on the right."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch

from rankselect.data.faults import FaultyRows, unicode_fault
from rankselect.data.overlap import comparable
from rankselect.errors import ArgumentError, TextsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Samples", "encode", "padded_batches"]

_TOKENIZED_AT_ONCE = 256


@final
@dataclass(frozen=True)
class Samples:
    """Distinct inputs, ready to be batched.

    Attributes:
        inputs: One dict of arrays or tensors for each sample, without a batch dimension.
        texts: The text or mapping of each of them.
        lengths: The number of tokens of each sample; 1 where a sample has no token ids (an image).
        n_duplicates: Samples dropped because they are the same as another, or equal it after truncation.
        first_duplicate: The first of these, and the earlier one that it is the same as; None if there are none.
        n_truncated: Texts cut at the maximal length.
        digests: SHA-256 of each distinct text.
    """

    inputs: list[dict[str, Any]]
    texts: list[Any]
    lengths: np.ndarray
    n_duplicates: int
    first_duplicate: tuple[Any, Any] | None
    n_truncated: int
    digests: list[bytes]

    def __len__(self) -> int:
        return len(self.inputs)

    def digest_of(self, rows: np.ndarray) -> str:
        """SHA-256 of some of the texts, in the order in which they were given."""
        return hashlib.sha256(b"".join(self.digests[row] for row in sorted(rows))).hexdigest()


def encode(
    tokenizer: Any,
    texts: Sequence[str] | Sequence[Mapping[str, Any]],
    max_length: int,
    max_samples: int | None,
    seed: int,
) -> Samples:
    """Check, deduplicate, subsample and tokenize.

    Of texts that are the same (see `comparable`), the first is used. Two points that are almost equal ruin any
    nearest-neighbour estimate, and even equal texts come out only almost equal in batches of different shape.

    Args:
        tokenizer: A transformers tokenizer, or None if the texts are model inputs already.
        texts: Strings, or one mapping of model inputs for each sample (``{"pixel_values": (3, h, w)}``).
        max_length: Texts are cut after so many tokens.
        max_samples: Use so many distinct texts, drawn with `seed`; None for all.
        seed: The seed of that draw.

    Raises:
        TextsError: If there are no texts, an empty one, one of another type, no tokenizer for strings, or a mapping
            longer than `max_length`.
    """
    samples = _checked(texts, tokenizer)
    forms = [comparable(each) if isinstance(each, str) else each for each in samples]
    distinct = _first_of_each(forms)
    chosen = _subsample([samples[row] for row in distinct], max_samples, seed)
    if isinstance(chosen[0], str):
        inputs, n_truncated = _tokenize(tokenizer, chosen, max_length)
    else:
        inputs, n_truncated = [dict(sample) for sample in chosen], 0
        _require_short(inputs, max_length)
    kept = _first_of_each(inputs)
    return Samples(
        inputs=[inputs[row] for row in kept],
        texts=[chosen[row] for row in kept],
        lengths=np.array([_length(inputs[row]) for row in kept]),
        n_duplicates=len(samples) - len(distinct) + len(inputs) - len(kept),
        first_duplicate=_first_duplicate(samples, forms, distinct),
        n_truncated=n_truncated,
        digests=[hashlib.sha256(_key(chosen[row])).digest() for row in kept],
    )


def padded_batches(
    samples: Samples, rows: np.ndarray, batch_size: int, pad_id: int, *, share: tuple[int, int] = (0, 1)
) -> Iterator[tuple[np.ndarray, dict[str, torch.Tensor]]]:
    """Batches of similar length, longest first, so that a lack of memory shows at once.

    Args:
        samples: The samples.
        rows: Which of them to batch.
        batch_size: Samples in a batch.
        pad_id: The token id that fills up shorter samples; masked, so any id of the vocabulary will do.
        share: ``(k, n)`` gives every n-th batch, from the k-th: the batches are the same whoever reads them.

    Yields:
        The rows of the batch, and its tensors: (batch, length, …), padded on the right, with an ``attention_mask``
        where there are token ids.
    """
    order = rows[np.argsort(-samples.lengths[rows], kind="stable")]
    first, every = share
    for start in range(first * batch_size, len(order), every * batch_size):
        batch = order[start : start + batch_size]
        yield batch, _pad([samples.inputs[row] for row in batch], pad_id)


def _checked(texts: Any, tokenizer: Any) -> list[Any]:
    if isinstance(texts, (str, Mapping, type)) or not hasattr(texts, "__iter__"):
        raise TextsError("a sequence of texts", repr(texts)[:80], "Pass a list of strings, even for a few texts.")
    samples = list(texts)
    if not samples:
        raise TextsError("texts to measure the model on", "none", "Pass some hundred texts of your own data.")
    kinds = {str if isinstance(s, str) else dict if hasattr(s, "keys") else type(s) for s in samples}
    if len(kinds) > 1 or not kinds <= {str, dict}:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise TextsError("texts that are all strings, or all mappings of model inputs", names, "Convert them first.")
    if kinds == {dict} and any(isinstance(value, str) for value in dict(samples[0]).values()):
        raise TextsError(
            "strings, or mappings of model inputs",
            f"mappings of text: {', '.join(map(str, samples[0]))}",
            "Take the texts out of them: load_texts(…, field=NAME).",
        )
    layouts = {tuple(sorted(sample)) for sample in samples} if kinds == {dict} else set()
    if len(layouts) > 1:
        first, second, *_ = sorted(layouts)
        raise TextsError("mappings with the same names", f"{first} and {second}", "Give every sample the same inputs.")
    if kinds == {str}:
        empty = [index for index, text in enumerate(samples) if not text.strip()]
        if empty:
            raise TextsError(
                "texts that are not empty", f"{len(empty)} empty, the first at index {empty[0]}", "Drop empty texts."
            )
        _require_unicode(samples)
        if not callable(tokenizer):
            raise TextsError(
                "a tokenizer for texts that are strings",
                repr(tokenizer)[:80],
                "Pass the model's tokenizer, for example from rankselect.load_tokenizer.",
            )
    return samples


def _require_unicode(texts: list[str]) -> None:
    faulty = FaultyRows("the texts", "texts in Unicode", "load_texts")
    for index, text in enumerate(texts):
        fault = unicode_fault(text)
        if fault:
            faulty.add(TextsError("texts in Unicode", f"{fault} (text {index})", "Repair the text."))
    faulty.settle(len(texts), skip=False)


def _subsample(samples: list[Any], max_samples: int | None, seed: int) -> list[Any]:
    if max_samples is None or max_samples >= len(samples):
        return samples
    if max_samples < 1:
        raise ArgumentError("max_samples of at least 1, or None", repr(max_samples), "Use some hundred texts.")
    rows = np.random.default_rng(seed).choice(len(samples), size=max_samples, replace=False)
    return [samples[row] for row in sorted(rows)]


def _tokenize(tokenizer: Any, texts: list[str], max_length: int) -> tuple[list[dict[str, Any]], int]:
    inputs: list[dict[str, Any]] = []
    n_truncated = 0
    for start in range(0, len(texts), _TOKENIZED_AT_ONCE):
        chunk = texts[start : start + _TOKENIZED_AT_ONCE]
        encoded = tokenizer(chunk, truncation=True, max_length=max_length)
        for index, ids in enumerate(encoded["input_ids"]):
            if len(ids) == 0:
                raise TextsError("texts of at least one token", f"{chunk[index]!r}, which has none", "Drop such texts.")
            inputs.append({"input_ids": np.asarray(ids, dtype=np.int32)})
            fast = getattr(encoded, "encodings", None)
            n_truncated += bool(fast[index].overflowing) if fast else len(ids) >= max_length
    return inputs, n_truncated


def _require_short(inputs: Sequence[Mapping[str, Any]], max_length: int) -> None:
    longest = max(_length(sample) for sample in inputs)
    if longest > max_length:
        raise TextsError(
            f"model inputs of at most {max_length} tokens",
            f"one of {longest}",
            "Cut them, or raise max_length if the model has more positions.",
        )


def _first_of_each(samples: Sequence[Any]) -> list[int]:
    """The positions of the samples that do not equal an earlier one."""
    first: dict[bytes, int] = {}
    for position, sample in enumerate(samples):
        first.setdefault(_key(sample), position)
    return list(first.values())


def _first_duplicate(samples: Sequence[Any], forms: Sequence[Any], distinct: Sequence[int]) -> tuple[Any, Any] | None:
    later = next((row for row, kept in enumerate(distinct) if row != kept), len(distinct))
    if later == len(samples):
        return None
    key = _key(forms[later])
    return samples[later], next(sample for sample, form in zip(samples, forms, strict=True) if _key(form) == key)


def _key(sample: Any) -> bytes:
    """Bytes that are equal exactly where two samples are."""
    if isinstance(sample, str):
        return sample.encode("utf-8", "surrogatepass")
    digest = hashlib.sha256()
    for name in sorted(sample):
        array = torch.as_tensor(sample[name]).detach().cpu().contiguous()
        digest.update(f"{name}{tuple(array.shape)}{array.dtype}".encode())
        digest.update(array.flatten().view(torch.uint8).numpy().tobytes())
    return digest.digest()


def _length(sample: Mapping[str, Any]) -> int:
    return len(sample["input_ids"]) if "input_ids" in sample else 1


def _pad(samples: list[dict[str, Any]], pad_id: int) -> dict[str, torch.Tensor]:
    batch: dict[str, torch.Tensor] = {}
    for name in samples[0]:
        tensors = [torch.as_tensor(sample[name]) for sample in samples]
        if len({tensor.shape for tensor in tensors}) == 1:
            batch[name] = torch.stack(tensors)
        elif tensors[0].ndim == 1 and name.endswith(("_ids", "_mask")):  # tokens; audio has no mask of its own
            fill = pad_id if name.endswith("input_ids") else 0
            batch[name] = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=fill)
        else:
            shapes = sorted({tuple(tensor.shape) for tensor in tensors})
            raise TextsError(
                f"inputs {name!r} of one shape", f"shapes {shapes[0]} and {shapes[-1]}", "Resize or pad them first."
            )
    for name in ("input_ids", "decoder_input_ids"):
        mask = name.replace("input_ids", "attention_mask")
        if name in batch:
            batch[name] = batch[name].long()
            if mask not in batch:
                lengths = torch.tensor([len(sample[name]) for sample in samples])
                batch[mask] = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
    return batch
