"""`LLMJudge`: ranks the arms' answers to the same questions by the preferences of a language model."""

from __future__ import annotations

import math
import warnings
from dataclasses import KW_ONLY, InitVar, dataclass, field
from typing import TYPE_CHECKING, Any, final

from rankselect.errors import ArgumentError, MetricError, RankSelectWarning
from rankselect.metrics.judge.endpoint import open_endpoint
from rankselect.metrics.judge.pairings import DEFAULT_CRITERIA, checked_judge_input, pairings
from rankselect.metrics.judge.preferences import Comparison, Preference, parse_verdict
from rankselect.metrics.judge.ranking import ranked
from rankselect.metrics.judge.replies import ReplyCache, ask_all
from rankselect.metrics.judge.result import JudgeResult

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from rankselect.metrics.judge.pairings import JudgeInput, Pairing
    from rankselect.metrics.metric_input import GeneratedText

__all__ = ["LLMJudge"]


@final
@dataclass(frozen=True)
class LLMJudge:
    """A language model that judges the arms' answers to the same questions.

    Every pair of arms is compared on every question twice, once in each order. Only a preference that is the same in
    both orders is a win; a preference that changes with the order is recorded and counts as a tie. Replies without a
    clear verdict are abstentions and are kept verbatim. A Bradley-Terry model turns the wins into one ranking with
    intervals.

    The questions and answers are sent to the endpoint; the arms' names are not. Only the HTTP client holds the key: it
    does not appear in any repr, file, log message or error.

    Args:
        model: The model's name at the endpoint.
        base_url: An endpoint with OpenAI's API, for example ``http://127.0.0.1:8000/v1``. By default
            ``OPENAI_BASE_URL`` from the environment, or else OpenAI itself.
        api_key: By default ``OPENAI_API_KEY`` from the environment. Your own server may not need one.
        criteria: What makes an answer better, in one or two sentences.
        temperature: 0 is the most reproducible. None uses the endpoint's default; some models accept no other.
        max_tokens: The maximum number of tokens in a reply; None uses the endpoint's default.
        seed: The seed for the order of the calls and the draw of the questions.
        concurrency: The maximum number of simultaneous calls.
        timeout: Seconds without a response after which a call fails.
        max_retries: How often a call is repeated after a temporary failure. The waits grow, and are at least as long as
            ``Retry-After`` says.
        max_questions: Judge only this many questions, drawn at random; None judges all.
        cache: A folder that stores every reply, so that no reply is paid for twice, even if a run is interrupted.
            Without a folder, replies are kept in memory as long as the judge exists.
        complete: Your own function that calls a model, instead of an endpoint. It gets the messages of a chat
            (dictionaries with role and content), is called from `concurrency` threads, and returns the reply. An
            exception ends the run.

    Raises:
        ArgumentError: If an argument is out of range, or both an endpoint and `complete` are given.
        EndpointError: If there is neither a key nor the address of your own endpoint.
        SaveError: If the cache folder cannot be created.
        MissingExtraError: If the package openai is not installed and `complete` is not given.

    References:
        Zheng and others, Judging LLM-as-a-judge with MT-bench and chatbot arena (2023), arXiv:2306.05685.

    Example:
        A stand-in for a judge, which prefers the longer answer:

        >>> import re
        >>> def longer(messages):
        ...     a, b = re.findall(r"<answer [AB]>(.*?)</answer", messages[0]["content"], re.DOTALL)
        ...     return "[[A]]" if len(a) > len(b) else "[[B]]"
        >>> judge = LLMJudge("longer", complete=longer)
        >>> answers = {"short": ["Iron.", "Rest."], "long": ["Iron tablets.", "Rest and fluids."]}
        >>> result = judge.rank(["For anaemia?", "For flu?"], answers, progress=False)
        >>> [(arm.arm, round(arm.probability, 2)) for arm in result.ranking]
        [('long', 0.83), ('short', 0.17)]
    """

    model: str
    _: KW_ONLY
    base_url: str | None = None
    api_key: InitVar[str | None] = None
    criteria: str = DEFAULT_CRITERIA
    temperature: float | None = 0.0
    max_tokens: int | None = None
    seed: int = 0
    concurrency: int = 4
    timeout: float = 60.0
    max_retries: int = 5
    max_questions: int | None = None
    cache: str | os.PathLike[str] | None = None
    complete: Callable[[list[dict[str, str]]], str] | None = field(default=None, repr=False)

    _call: Callable[[list[dict[str, str]]], str] = field(init=False, repr=False, compare=False)
    _replies: ReplyCache = field(init=False, repr=False, compare=False)

    def __post_init__(self, api_key: str | None) -> None:
        _check(self)
        call = self.complete
        if call is None:
            call = endpoint = open_endpoint(
                self.model,
                self.base_url,
                api_key,
                timeout=self.timeout,
                max_retries=self.max_retries,
                settings=self._settings,
            )
            object.__setattr__(self, "base_url", endpoint.base_url)
        elif self.base_url is not None or api_key is not None:
            raise ArgumentError("either complete= or base_url= and api_key=", "both", "Pass one of the two.")
        object.__setattr__(self, "_call", call)
        object.__setattr__(self, "_replies", ReplyCache(self.cache))

    @property
    def _settings(self) -> dict[str, float]:
        temperature = None if self.temperature is None else float(self.temperature)  # 0 and 0.0 are the same request
        settings = {"temperature": temperature, "max_tokens": self.max_tokens}
        return {name: value for name, value in settings.items() if value is not None}

    def n_calls(
        self,
        questions: Sequence[str],
        answers: Mapping[str, Sequence[str | GeneratedText]],
        references: Sequence[str] | None = None,
    ) -> int:
        """Return the number of calls that `rank` would make now: those without a stored reply.

        Raises:
            MetricError: As for `rank`.

        Example:
            >>> judge = LLMJudge("any", complete=lambda messages: "[[tie]]", max_questions=50)
            >>> judge.n_calls(["Why?"] * 80, {arm: [f"{arm} {n}" for n in range(80)] for arm in "xyz"})
            300
        """
        given = checked_judge_input(questions, answers, references)
        requests = self._requests(given, self._pairings(given))
        return sum(self._replies.get(request) is None for request in requests.values())

    def rank(
        self,
        questions: Sequence[str],
        answers: Mapping[str, Sequence[str | GeneratedText]],
        references: Sequence[str] | None = None,
        *,
        confidence: float = 0.95,
        n_resamples: int = 2000,
        progress: bool = True,
    ) -> JudgeResult:
        """Compare the arms' answers and rank the arms.

        Args:
            questions: n questions.
            answers: ``{arm: its n answers}``, at least two arms: texts, or what `generate_answers` returns. An empty
                string is an answer.
            references: n reference answers, which are shown to the judge.
            confidence: The level of the intervals, between 0 and 1.
            n_resamples: The number of draws of the Bayesian bootstrap over the questions.
            progress: Whether to show a progress bar.

        Returns:
            The result. If the verdicts do not rank the arms, because all are abstentions or no comparison connects two
            groups of arms, the result has no ranking but the reason, and there is a `RankSelectWarning`.

        Raises:
            MetricError: If there are fewer than two arms, no questions, lengths differ, or something is not text.
            ArgumentError: If `confidence` or `n_resamples` is out of range.
            EndpointError: If the endpoint cannot be reached, refuses the key, or keeps failing. The replies received
                until then are kept, as they are when the run is interrupted.
            SaveError: If a reply cannot be written to the cache folder.
        """
        if not 0 < confidence < 1:
            raise ArgumentError("a confidence between 0 and 1", repr(confidence), "For example 0.95.")
        if n_resamples < 1:
            raise ArgumentError("at least 1 resample", repr(n_resamples), "For example 2000.")
        given = checked_judge_input(questions, answers, references)
        chosen = self._pairings(given)
        requests = self._requests(given, chosen)
        replies = ask_all(requests, self._call, self._replies, concurrency=self.concurrency, progress=progress)
        comparisons = sorted(
            (self._comparison(given, pairing, replies) for pairing in chosen), key=lambda each: each.question
        )
        arms = tuple(given.answers)
        try:
            ranking, unranked = ranked(arms, comparisons, confidence, n_resamples, self.seed), ""
        except MetricError as error:
            ranking, unranked = (), str(error)
        result = JudgeResult(repr(self), arms, ranking, unranked, confidence, tuple(comparisons))
        _warn(result)
        return result

    def _pairings(self, given: JudgeInput) -> list[Pairing]:
        return pairings(tuple(given.answers), len(given.questions), self.max_questions, self.seed)

    def _requests(self, given: JudgeInput, chosen: Sequence[Pairing]) -> dict[str, dict[str, Any]]:
        """Return ``{prompt: request}`` for every call that the pairings need; equal prompts share a call."""
        prompts = [
            given.prompt(pairing.question, first, second, self.criteria)
            for pairing in chosen
            if not given.identical(pairing)
            for first, second in pairing.orders
        ]
        asked = {"base_url": self.base_url, "model": self.model, **self._settings}
        # a single user message: not every chat template supports a system role
        return {prompt: {**asked, "messages": [{"role": "user", "content": prompt}]} for prompt in prompts}

    def _comparison(self, given: JudgeInput, pairing: Pairing, replies: Mapping[str, str]) -> Comparison:
        verdicts = []
        for first, second in () if given.identical(pairing) else pairing.orders:
            reply = replies[given.prompt(pairing.question, first, second, self.criteria)]
            verdicts.append(Preference(pairing.question, first, second, parse_verdict(reply), reply))
        return Comparison(pairing.question, pairing.arms, tuple(verdicts))


def _check(judge: LLMJudge) -> None:
    for name in ("model", "criteria"):
        if not isinstance(getattr(judge, name), str) or not getattr(judge, name).strip():
            raise ArgumentError(f"text as {name}", repr(getattr(judge, name)), "It may not be empty.")
    smallest = {"seed": 0, "concurrency": 1, "max_retries": 0, "max_tokens": 1, "max_questions": 1}
    for name, least in smallest.items():
        value = getattr(judge, name)
        optional = value is None and name.startswith("max_") and name != "max_retries"
        if not optional and (not isinstance(value, int) or isinstance(value, bool) or value < least):
            raise ArgumentError(f"an integer of at least {least} for {name}", repr(value), "Choose another value.")
    if not (isinstance(judge.timeout, (int, float)) and math.isfinite(judge.timeout) and judge.timeout > 0):
        raise ArgumentError("a timeout above 0 seconds", repr(judge.timeout), "For example 60.")
    temperature = judge.temperature
    if temperature is not None and not (
        isinstance(temperature, (int, float)) and math.isfinite(temperature) and temperature >= 0
    ):
        raise ArgumentError("a temperature of at least 0, or None", repr(temperature), "0 is the most reproducible.")


def _warn(result: JudgeResult) -> None:
    n, changed = len(result.comparisons), result.n_disagreements
    abstained = sum(each.outcome == "abstained" for each in result.comparisons)
    if result.unranked:
        warnings.warn(f"The judge did not rank the arms: {result.unranked}", RankSelectWarning, stacklevel=3)
    elif 2 * changed > n:
        warnings.warn(
            f"{changed} of {n} comparisons changed with the order of the answers and count as ties: the position of an "
            "answer influences this judge more than its content.",
            RankSelectWarning,
            stacklevel=3,
        )
    elif 2 * abstained > n:
        warnings.warn(
            f"{abstained} of {n} comparisons are left out because the judge abstained: the others decide the ranking.",
            RankSelectWarning,
            stacklevel=3,
        )
