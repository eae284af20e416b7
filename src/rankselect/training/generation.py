"""Answers that a model writes to questions: in batches, each up to its first stop text, with the time it took."""

from __future__ import annotations

import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

import torch
from tqdm.auto import tqdm
from transformers import GenerationConfig, StoppingCriteria

from rankselect.data.prompt_tokens import PromptTokens, end_token_id, pad_token_id
from rankselect.data.prompts import PromptTemplate
from rankselect.data.rows import questions_of
from rankselect.errors import ArgumentError, DataError, ModelError, RankSelectWarning
from rankselect.models.evaluation_mode import evaluating, has_dropout
from rankselect.models.layers import unwrapped
from rankselect.models.trunk import input_device
from rankselect.training.out_of_memory import shrinking_batches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import nn

    from rankselect.data.prompts import QuestionAnswer

__all__ = ["GeneratedAnswer", "StopTexts", "before_stop", "generate_answers"]

_Reason = Literal["end", "stop", "length"]


@final
@dataclass(frozen=True)
class GeneratedAnswer:
    """What a model answered.

    Attributes:
        text: The answer, without prompt, special tokens, stop text, and white space around it; may be empty.
        seconds: Wall-clock time of the answer's batch, divided by the answers in it. Seconds add up to the time that
            all answers took; with ``batch_size=1`` they are the time of each by itself.
        n_tokens: Tokens that the model wrote for it, an end-of-text token and a stop text included.
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
    """Let a model answer questions.

    Prompts are padded on the left and batched by length. The model's own generation settings (temperature, penalties)
    do not apply, and everything is left as it was found: modes of modules, generation settings, random number
    generators, gradient checkpointing. A batch that does not fit into memory is halved. In float32 greedy answers do
    not depend on the batch; int8 layers choose their outlier columns from all of it.

    Args:
        model: A causal language model of transformers, plain or with an adapter, merged or not.
        tokenizer: Its tokenizer.
        questions: The questions, or rows: what `load_rows` returns, or mappings with a question.
        template: The form of the prompt, and the texts at which an answer ends; None for the default.
        max_new_tokens: The greatest number of tokens of an answer.
        batch_size: Questions at a time.
        temperature: None writes the likeliest token each time (greedy); a number samples at that temperature.
        dropout: Leave dropout on, as in training. Scores of such answers are too low; this is for measuring how much.
        seed: Decides sampling and dropout.
        progress: Whether to show a progress bar.

    Returns:
        One answer for each question, in their order.

    Raises:
        DataError: If there are no questions, an empty one, or no room for the template's own words.
        ArgumentError: If a number is out of range.
        ModelError: If the model cannot generate, or has no weights.
        OutOfMemoryError: If not even one answer fits into memory.

    Warns:
        RankSelectWarning: If questions were cut to make room for `max_new_tokens`, or if `dropout` has nothing to do.

    Example:
        >>> from rankselect.training.small_phi import small_phi
        >>> model, tokenizer = small_phi(steps=0, progress=False)
        >>> [answer] = generate_answers(model, tokenizer, ["What is acne?"], max_new_tokens=5, progress=False)
        >>> answer.n_tokens, answer.stopped_by
        (5, 'length')
    """
    template = template or PromptTemplate()
    questions = questions_of(questions, template)
    _check_arguments(model, questions, max_new_tokens, temperature)
    if dropout and not has_dropout(model):
        warnings.warn("dropout=True changes nothing: the model has no dropout.", RankSelectWarning, stacklevel=2)
    prompts = _prompts(model, PromptTokens(tokenizer, template), questions, max_new_tokens)
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    settings = _settings(model, tokenizer, max_new_tokens, temperature)

    def answer(batch: Sequence[int]) -> list[GeneratedAnswer]:
        return _answer(model, tokenizer, [prompts[index] for index in batch], template.stop, settings)

    answers: dict[int, GeneratedAnswer] = {}
    with (
        evaluating(model, dropout=dropout, seed=seed),
        _generation_settings(model, settings),
        tqdm(total=len(questions), desc="Answering", disable=not progress) as bar,
    ):
        for batch, written in shrinking_batches(order, batch_size, answer):
            answers.update(zip(batch, written, strict=True))
            bar.update(len(batch))
    return [answers[index] for index in range(len(questions))]


def _answer(
    model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], stops: Sequence[str], settings: GenerationConfig
) -> list[GeneratedAnswer]:
    """Answer the prompts of one batch."""
    began = time.perf_counter()
    longest = max(len(prompt) for prompt in prompts)
    device = input_device(model)
    ids = [[*[settings.pad_token_id] * (longest - len(prompt)), *prompt] for prompt in prompts]
    mask = [[*[0] * (longest - len(prompt)), *[1] * len(prompt)] for prompt in prompts]
    stopping = StopTexts(tokenizer, stops, longest)
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
        text = before_stop(tokenizer.decode(row[:n_tokens], skip_special_tokens=True), stops)
        answers.append(GeneratedAnswer(text.strip(), seconds, n_tokens, stopped_by))
    return answers


def _end_of(ids: Sequence[int], n_stop: int | None, ends: Sequence[int]) -> tuple[int, _Reason]:
    """How many tokens a row has before its padding, and why it has no more."""
    n_end = next((n for n, token in enumerate(ids, start=1) if token in ends), None)
    if n_stop is not None and (n_end is None or n_stop <= n_end):
        return n_stop, "stop"
    return (len(ids), "length") if n_end is None else (n_end, "end")


def _check_arguments(
    model: nn.Module, questions: Sequence[str], max_new_tokens: int, temperature: float | None
) -> None:
    base = unwrapped(model)
    if not (hasattr(base, "can_generate") and base.can_generate()) or base.config.is_encoder_decoder:  # type: ignore[operator, union-attr]
        raise ModelError(
            "a causal language model of transformers",
            f"a {type(base).__name__}, which does not generate",
            "Load it as AutoModelForCausalLM.",
        )
    if not questions:
        raise DataError("a list of questions", "none", "Pass at least one.")
    for index, question in enumerate(questions):
        if not isinstance(question, str) or not question.strip():
            got = "an empty one" if isinstance(question, str) else f"a {type(question).__name__}"
            raise DataError("questions with words", f"{got} at index {index}", "Leave it out.")
    if max_new_tokens < 1:
        raise ArgumentError("max_new_tokens of at least 1", repr(max_new_tokens), "For example 128.")
    if temperature is not None and not 0 < temperature < float("inf"):
        raise ArgumentError("a temperature above 0, or None", repr(temperature), "None writes the likeliest tokens.")


def _prompts(model: nn.Module, encode: PromptTokens, questions: Sequence[str], max_new_tokens: int) -> list[list[int]]:
    """The prompts' ids, cut where the context has no room for them and an answer."""
    prompts = encode.prompts(questions)
    room = encode.room(model, max_new_tokens)
    if room is None:
        return prompts
    long = [index for index, prompt in enumerate(prompts) if len(prompt) > room]
    if long:
        longest = max(len(prompts[index]) for index in long)
        warnings.warn(
            f"{len(long)} of {len(questions)} questions lost their end: the longest prompt has {longest} tokens, the "
            f"context of {room + max_new_tokens} less max_new_tokens leaves {room}.",
            RankSelectWarning,
            stacklevel=3,
        )
    for index in long:
        prompts[index] = encode.cut_prompt(questions[index], room)
    return prompts


def _settings(model: nn.Module, tokenizer: Any, max_new_tokens: int, temperature: float | None) -> GenerationConfig:
    """Greedy search or plain sampling, whatever the model's own settings are; its own end tokens count too."""
    own = getattr(getattr(unwrapped(model), "generation_config", None), "eos_token_id", None)
    ends = {end_token_id(tokenizer), *([own] if isinstance(own, int) else own or [])}
    sampling = {} if temperature is None else {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted(ends),
        pad_token_id=pad_token_id(tokenizer),
        use_cache=True,
        **sampling,
    )


@contextmanager
def _generation_settings(model: nn.Module, settings: GenerationConfig) -> Iterator[None]:
    """The model's own settings would fill in whatever ours leave open, so they are put away meanwhile."""
    base: Any = unwrapped(model)
    own = base.generation_config
    base.generation_config = settings
    try:
        yield
    finally:
        base.generation_config = own


class StopTexts(StoppingCriteria):
    """A stopping criterion of `generate` that is fulfilled for a row when a stop text stands in what it has written.

    Args:
        tokenizer: Decodes what was written.
        stops: The texts.
        n_prompt: The tokens of the (padded) prompts, which are not looked at.

    Attributes:
        n_written: For each row that met a stop text, the tokens it had written by then, by index.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[str], n_prompt: int) -> None:
        self._tokenizer = tokenizer
        self._stops = tuple(stops)
        self._n_prompt = n_prompt
        # every token stands for a byte at least, and the text may begin inside one
        self._tail = max((len(stop.encode()) for stop in stops), default=0) + 1
        self.n_written: dict[int, int] = {}

    def __call__(self, input_ids: torch.LongTensor, scores: torch.Tensor, **kwargs: Any) -> torch.BoolTensor:
        """For each row of `input_ids`, whether it is finished."""
        written = input_ids[:, self._n_prompt :]
        if self._stops:
            tails = self._tokenizer.batch_decode(written[:, -self._tail :], skip_special_tokens=False)
            for row, tail in enumerate(tails):
                if row not in self.n_written and any(stop in tail for stop in self._stops):
                    self.n_written[row] = written.shape[1]
        finished = [row in self.n_written for row in range(len(input_ids))]
        return torch.tensor(finished, dtype=torch.bool, device=input_ids.device)  # type: ignore[return-value]


def before_stop(text: str, stops: Sequence[str]) -> str:
    """The text up to the first of the stop texts.

    Example:
        >>> before_stop("A disease. ### Instruction: And", ["### Instruction"])
        'A disease. '
    """
    return text[: min((text.find(stop) for stop in stops if stop in text), default=len(text))]
