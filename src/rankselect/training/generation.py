"""Generation of answers to questions: in batches, each answer up to its first stop text and with its time."""

from __future__ import annotations

import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

import torch
from tqdm.auto import tqdm
from transformers import GenerationConfig

from rankselect.data.chat_tokens import prompt_tokens
from rankselect.data.conversation import Conversation
from rankselect.data.prompt_tokens import end_token_id
from rankselect.data.rows import questions_of
from rankselect.errors import ArgumentError, DataError, RankSelectWarning
from rankselect.models.evaluation_mode import evaluating, has_dropout
from rankselect.models.layers import unwrapped
from rankselect.models.suitability import filler_token, require_causal, require_embedded, require_tokenizer
from rankselect.models.trunk import input_device
from rankselect.training.left_padding import safe_batch_size
from rankselect.training.out_of_memory import shrinking_batches
from rankselect.training.own_template import own_template
from rankselect.training.stop_texts import StopTexts, before_stop

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import nn

    from rankselect.data.prompt_tokens import PromptTokens
    from rankselect.data.prompts import PromptTemplate, QuestionAnswer

__all__ = ["GeneratedAnswer", "generate_answers"]

_Reason = Literal["end", "stop", "length"]


@final
@dataclass(frozen=True)
class GeneratedAnswer:
    """A generated answer.

    Attributes:
        text: The answer without prompt, special tokens, stop text and surrounding white space; may be empty.
        seconds: Wall-clock time of the answer's batch, divided by the number of answers in it. The seconds of all
            answers add up to the total time; with ``batch_size=1`` each is the time of that answer.
        n_tokens: The number of generated tokens, including an end-of-text token and a stop text.
        stopped_by: ``"end"`` (of text), ``"stop"`` (a stop text of the template) or ``"length"`` (`max_new_tokens`).

    Example:
        >>> GeneratedAnswer("A disease of the skin.", seconds=0.2, n_tokens=6, stopped_by="end").text
        'A disease of the skin.'
    """

    text: str
    seconds: float
    n_tokens: int
    stopped_by: _Reason


def generate_answers(
    model: nn.Module,
    tokenizer: Any,
    questions: Iterable[str | QuestionAnswer | Mapping[str, Any]],
    *,
    template: PromptTemplate | None = None,
    max_new_tokens: int = 128,
    batch_size: int = 8,
    temperature: float | None = None,
    dropout: bool = False,
    seed: int = 0,
    progress: bool = True,
) -> list[GeneratedAnswer]:
    """Generate a model's answers to questions.

    Prompts are padded on the left and batched by length. The model's own generation settings (temperature, penalties)
    are ignored. Module modes, generation settings, random number generators and gradient checkpointing are restored
    afterwards. A batch that does not fit into memory is halved. In float32, greedy answers do not depend on the batch;
    with int8 layers they may, because these layers choose their outlier columns from the complete batch.

    Args:
        model: A causal language model of transformers, plain or with an adapter, merged or not.
        tokenizer: Its tokenizer, or a processor with one.
        questions: The questions as texts or as rows: what `load_rows` returns, or mappings with a question.
        template: The prompt template with its stop texts. None: that of the adapter's record, or else the default.
        max_new_tokens: The maximum number of tokens in an answer.
        batch_size: Questions per batch.
        temperature: None for greedy decoding; a number to sample at that temperature.
        dropout: Leave dropout on, as in training. This lowers the scores of the answers; use it to measure by how much.
        seed: The seed for sampling and dropout.
        progress: Whether to show a progress bar.

    Returns:
        One answer for each question, in the same order.

    Raises:
        DataError: If there are no questions, one is empty, or there is no room for the template's own words.
        ArgumentError: If a number is out of range.
        ModelError: If the model is not causal, has no weights, or has no embedding for a token.
        OutOfMemoryError: If not even one answer fits into memory.

    Warns:
        RankSelectWarning: If questions were cut to make room for `max_new_tokens`; if `dropout` is True but the model
            has no dropout; or if the model does not ignore padding, so that it answers one question at a time.

    Example:
        >>> from rankselect.training.small_phi import small_phi
        >>> model, tokenizer = small_phi(steps=0, progress=False)
        >>> [answer] = generate_answers(model, tokenizer, ["What is acne?"], max_new_tokens=5, progress=False)
        >>> answer.n_tokens, answer.stopped_by
        (5, 'length')
    """
    tokenizer = require_tokenizer(tokenizer)
    template = own_template(model, tokenizer, template)
    questions = questions_of(questions, template)
    _check_arguments(model, questions, max_new_tokens, temperature)
    if dropout and not has_dropout(model):
        warnings.warn("dropout=True changes nothing: the model has no dropout.", RankSelectWarning, stacklevel=2)
    encode = prompt_tokens(tokenizer, template)
    prompts = _prompts(model, encode, questions, max_new_tokens)
    require_embedded(model, tokenizer, prompts)
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    settings = _settings(model, tokenizer, encode.ends, max_new_tokens, temperature)

    def answer(batch: Sequence[int]) -> list[GeneratedAnswer]:
        return _answer(model, tokenizer, [prompts[index] for index in batch], template, settings)

    answers: dict[int, GeneratedAnswer] = {}
    with (
        evaluating(model, dropout=dropout, seed=seed),
        _generation_settings(model, settings),
        tqdm(total=len(questions), desc="Answering", disable=not progress) as bar,
    ):
        at_once = batch_size if dropout else safe_batch_size(model, prompts, settings, batch_size)
        for batch, written in shrinking_batches(order, at_once, answer):
            answers.update(zip(batch, written, strict=True))
            bar.update(len(batch))
    return [answers[index] for index in range(len(questions))]


def _answer(
    model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], template: PromptTemplate, settings: GenerationConfig
) -> list[GeneratedAnswer]:
    """Answer the prompts of one batch."""
    began = time.perf_counter()
    longest = max(len(prompt) for prompt in prompts)
    device = input_device(model)
    ids = [[*[settings.pad_token_id] * (longest - len(prompt)), *prompt] for prompt in prompts]
    mask = [[*[0] * (longest - len(prompt)), *[1] * len(prompt)] for prompt in prompts]
    stopping = StopTexts(tokenizer, template.stop, longest, template.stop_anywhere)
    generated = unwrapped(model).generate(  # type: ignore[operator]
        input_ids=torch.tensor(ids, device=device),
        attention_mask=torch.tensor(mask, device=device),
        generation_config=settings,
        stopping_criteria=[stopping],
    )
    rows = generated[:, longest:].tolist()  # waits for the GPU
    seconds = (time.perf_counter() - began) / len(prompts)
    answers = []
    for index, row in enumerate(rows):
        n_tokens, stopped_by = _end_of(row, stopping.n_written.get(index), settings.eos_token_id)
        text = tokenizer.decode(row[:n_tokens], skip_special_tokens=True)
        text = before_stop(text, template.stop, template.stop_anywhere)
        answers.append(GeneratedAnswer(text.strip(), seconds, n_tokens, stopped_by))
    return answers


def _end_of(ids: Sequence[int], n_stop: int | None, ends: Sequence[int]) -> tuple[int, _Reason]:
    """Return the number of tokens before a row's padding, and why generation stopped there."""
    n_end = next((n for n, token in enumerate(ids, start=1) if token in ends), None)
    if n_stop is not None and (n_end is None or n_stop <= n_end):
        return n_stop, "stop"
    return (len(ids), "length") if n_end is None else (n_end, "end")


def _check_arguments(
    model: nn.Module, questions: Sequence[str], max_new_tokens: int, temperature: float | None
) -> None:
    require_causal(model)
    if not questions:
        raise DataError("a list of questions", "none", "Pass at least one.")
    for index, question in enumerate(questions):
        if isinstance(question, Conversation):
            continue
        if not isinstance(question, str) or not question.strip():
            got = "an empty one" if isinstance(question, str) else f"a {type(question).__name__}"
            raise DataError("questions with words", f"{got} at index {index}", "Leave it out.")
    if max_new_tokens < 1:
        raise ArgumentError("max_new_tokens of at least 1", repr(max_new_tokens), "For example 128.")
    if temperature is not None and not 0 < temperature < float("inf"):
        raise ArgumentError("a temperature above 0, or None", repr(temperature), "None is greedy decoding.")


def _prompts(model: nn.Module, encode: PromptTokens, questions: Sequence[str], max_new_tokens: int) -> list[list[int]]:
    """Return the ids of the prompts; those that leave no room for an answer in the context are cut."""
    prompts = encode.prompts(questions)
    room = encode.room(model, max_new_tokens)
    if room is None:
        return prompts
    long = [index for index, prompt in enumerate(prompts) if len(prompt) > room]
    if long:
        longest = max(len(prompts[index]) for index in long)
        warnings.warn(
            f"{len(long)} of {len(questions)} questions were cut at the end: the longest prompt has {longest} tokens, "
            f"but the context of {room + max_new_tokens} minus max_new_tokens leaves room for {room}.",
            RankSelectWarning,
            stacklevel=3,
        )
    for index in long:
        prompts[index] = encode.cut_prompt(questions[index], room)
    return prompts


def _settings(
    model: nn.Module, tokenizer: Any, own_ends: set[int], max_new_tokens: int, temperature: float | None
) -> GenerationConfig:
    """Return settings for greedy search or plain sampling; of the model's own settings only the end tokens apply."""
    own = getattr(getattr(unwrapped(model), "generation_config", None), "eos_token_id", None)
    ends = own_ends | {end_token_id(tokenizer), *([own] if isinstance(own, int) else own or [])}
    sampling = {} if temperature is None else {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted(ends),
        pad_token_id=filler_token(model, tokenizer),
        use_cache=True,
        **sampling,
    )


@contextmanager
def _generation_settings(model: nn.Module, settings: GenerationConfig) -> Iterator[None]:
    """Replace the model's own settings for a block: `generate` would fall back to them for everything that is unset."""
    base: Any = unwrapped(model)
    own = base.generation_config
    base.generation_config = settings
    try:
        yield
    finally:
        base.generation_config = own
