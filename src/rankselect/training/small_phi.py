"""A small language model with the Phi architecture, trained locally: a real model without a download."""

from __future__ import annotations

import logging
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tqdm.auto import tqdm
from transformers import PhiConfig, PhiForCausalLM, PreTrainedTokenizerFast

from rankselect.data.medical_qa import medical_qa
from rankselect.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["DEFAULT_STEPS", "small_phi"]

logger = logging.getLogger(__name__)

DEFAULT_STEPS = 300
"""A little over two epochs, which take 30 to 40 seconds on one CPU core."""

_NAME = "rankselect/small-phi"
_VOCABULARY, _CONTEXT = 1500, 512
_SEQUENCE, _BATCH = 128, 4  # tokens per training row, rows per step
_LEARNING_RATE, _WARMUP = 5e-3, 0.1  # the peak, and the fraction of the steps used for warmup
_END, _PAD = "<|endoftext|>", "<|pad|>"


def small_phi(
    *, seed: int = 0, steps: int = DEFAULT_STEPS, texts: Sequence[str] | None = None, progress: bool = True
) -> tuple[PhiForCausalLM, PreTrainedTokenizerFast]:
    """Train a small Phi model on the embedded questions and answers.

    The architecture is that of Phi-2 (attention and MLP side by side, partial rotary embeddings, modules ``q_proj``,
    ``k_proj``, ``v_proj``, ``dense``, ``fc1``, ``fc2``) with 8 layers of width 128, 4 heads and 2 million parameters;
    the vocabulary is a byte-level BPE of 1,500 tokens, trained on the same texts. The model is meant for tests and
    tutorials: by default its training loss ends near 2.6 nats per token, compared with 6.0 for a unigram model, so it
    has learned the wording of the texts, but nothing about medicine.

    On one machine the same seed gives a bit-identical model. Training runs on one thread: the matrices are too small to
    benefit from more, and sums over several threads would depend on their number. The global random number generators
    and the number of threads are restored afterwards, and nothing is downloaded.

    Args:
        seed: The seed for the initial weights and the order of the texts.
        steps: Training steps of 512 tokens; 0 gives an untrained model.
        texts: The texts for training and for the vocabulary; by default all embedded questions and answers.
        progress: Whether to show a progress bar.

    Returns:
        The model, on the CPU and in evaluation mode, and its tokenizer.

    Raises:
        ArgumentError: If `steps` or `seed` is not an integer of at least 0.

    Example:
        >>> model, tokenizer = small_phi(steps=0, progress=False)
        >>> model.config.num_hidden_layers, model.num_parameters(), len(tokenizer)
        (8, 1969884, 1500)
    """
    for name, value in (("seed", seed), ("steps", steps)):
        if not isinstance(value, int) or value < 0:
            raise ArgumentError(f"an integer of at least 0 for {name}", repr(value), "Choose another value.")
    texts = [pair.text for pair in medical_qa()] if texts is None else texts
    tokenizer = _tokenizer(texts)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"), _one_thread():
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reseed GPUs
        model = PhiForCausalLM(_config(tokenizer))
        if steps:
            _train(model, _rows(texts, tokenizer, seed), steps=steps, seed=seed, progress=progress)
    model.eval()
    return model, tokenizer


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=[_END, _PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=_END,
        eos_token=_END,
        pad_token=_PAD,
        model_max_length=_CONTEXT,
        clean_up_tokenization_spaces=False,
        name_or_path=_NAME,
    )


def _config(tokenizer: PreTrainedTokenizerFast) -> PhiConfig:
    config = PhiConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=8,
        num_attention_heads=4,
        max_position_embeddings=_CONTEXT,
        initializer_range=0.08,  # about 1 / sqrt(width): learns faster than the 0.02 that suits wide models
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config.name_or_path = _NAME
    return config


def _rows(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, seed: int) -> torch.Tensor:
    """(n_rows, _SEQUENCE) token ids: the shuffled texts, each followed by an end token, joined and cut into rows."""
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed)).tolist()
    tokens = [token for index in order for token in [*tokenizer(texts[index])["input_ids"], tokenizer.eos_token_id]]
    n_rows = len(tokens) // _SEQUENCE
    return torch.tensor(tokens[: n_rows * _SEQUENCE]).view(n_rows, _SEQUENCE)


def _train(model: Any, rows: torch.Tensor, *, steps: int, seed: int, progress: bool) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share_of_peak(step, steps))
    batches = _batches(rows, steps, torch.Generator().manual_seed(seed + 1))
    losses = []
    model.train()
    with torch.enable_grad(), tqdm(batches, desc="Training small-phi", disable=not progress) as bar:
        for batch in bar:
            loss = model(input_ids=batch, labels=batch, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
            bar.set_postfix(loss=f"{losses[-1]:.2f}")
    last = losses[-10:]
    logger.info(
        "small-phi: training loss %.2f after %d steps (first step %.2f, unigram baseline %.2f nats per token)",
        sum(last) / len(last),
        steps,
        losses[0],
        _unigram_loss(rows),
    )


def _batches(rows: torch.Tensor, steps: int, generator: torch.Generator) -> list[torch.Tensor]:
    """Return one batch for each step; the rows are shuffled in every epoch."""
    epochs = math.ceil(steps * _BATCH / len(rows))
    order = torch.cat([torch.randperm(len(rows), generator=generator) for _ in range(epochs)])
    return list(rows[order[: steps * _BATCH]].split(_BATCH))


def _share_of_peak(step: int, steps: int) -> float:
    warmup = max(1, round(_WARMUP * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _unigram_loss(rows: torch.Tensor) -> float:
    """The loss of the best model that ignores the context: the entropy of the tokens' frequencies."""
    frequencies = torch.bincount(rows.flatten()).double() / rows.numel()
    return float(torch.special.entr(frequencies).sum())
