"""Rows as tokens: what carries loss, what is cut and counted, and how a batch is padded."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from rankselect.data.encoding import IGNORED, AnswerCollator, encode_rows
from rankselect.data.medical_qa import medical_qa
from rankselect.data.prompt_tokens import PromptTokens
from rankselect.data.prompts import PromptTemplate, QuestionAnswer
from rankselect.errors import ArgumentError, DataError, RankSelectWarning
from rankselect.models.suitability import filler_token
from rankselect.testing import tiny_model, tiny_tokenizer
from rankselect.training.small_phi import small_phi

TOKENIZER = small_phi(steps=0, progress=False)[1]
END = TOKENIZER.eos_token_id
FRAME = len(TOKENIZER(PromptTemplate().prompt(""))["input_ids"])
TEXT = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1).map(str.strip).filter(bool)
LONG = QuestionAnswer("What is acne? " * 20, "A disease of the skin. " * 20)


def quietly(rows, tokenizer=TOKENIZER, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return encode_rows(rows, tokenizer, **arguments)


def n_prompt(row):
    return row["labels"].count(IGNORED)


@given(TEXT, TEXT)
def test_a_row_is_the_prompt_the_answer_and_the_end(question, answer):
    [row] = encode_rows([QuestionAnswer(question, answer)], TOKENIZER)
    prompt = TOKENIZER(f"### Instruction: {question} ### Assistant:")["input_ids"]
    expected = TOKENIZER(f" {answer}", add_special_tokens=False)["input_ids"]
    assert row["input_ids"] == [*prompt, *expected, END]
    assert row["labels"] == [IGNORED] * len(prompt) + [*expected, END]


def test_loss_on_all():
    [row] = encode_rows(medical_qa()[:1], TOKENIZER, loss_on="all")
    assert row["labels"] == row["input_ids"]


@given(TEXT.map(lambda text: text * 5), TEXT.map(lambda text: text * 5), st.integers(FRAME + 1, 120))
def test_the_policy_on_long_rows(question, answer, max_length):
    [full] = encode_rows([QuestionAnswer(question, answer)], TOKENIZER, max_length=512)
    encoded = quietly([QuestionAnswer(question, answer)], max_length=max_length)
    [row] = encoded
    whole, length = full["input_ids"], len(row["input_ids"])
    assert encoded.longest == len(whole)
    prompt, full_prompt = n_prompt(row), n_prompt(full)
    if len(whole) <= max_length:
        assert row == full
        assert (encoded.n_cut_questions, encoded.n_cut_answers) == (0, 0)
        return
    assert length <= max_length
    assert prompt < length
    # what is left of the answer is its beginning, and only a whole one has an end
    answer_ids = row["input_ids"][prompt:]
    assert answer_ids == whole[full_prompt:][: len(answer_ids)]
    assert encoded.n_cut_answers == (answer_ids[-1] != END or len(answer_ids) < len(whole) - full_prompt)
    if encoded.n_cut_answers:  # then the row is full, and the question has no more than its share
        assert length == max_length
        assert prompt <= FRAME + max_length // 4
    assert encoded.n_cut_questions == (prompt < full_prompt)
    kept = TOKENIZER.decode(row["input_ids"][:prompt])
    assert kept.startswith("### Instruction:")
    assert kept.endswith("### Assistant:")
    assert question.startswith(kept.removeprefix("### Instruction:").removesuffix("### Assistant:").strip())


def test_an_answer_is_cut_at_its_end_and_learns_no_stop():
    row = QuestionAnswer("What is acne?", "A disease of the skin. " * 20)
    with pytest.warns(
        RankSelectWarning, match="0 questions and 1 answers of 2 rows were cut at the end: the longest row"
    ):
        encoded = encode_rows([row, *medical_qa()[:1]], TOKENIZER, max_length=100)
    assert encoded.lengths[0] == 100
    assert END not in encoded[0]["input_ids"]
    assert encoded[1]["input_ids"][-1] == END
    assert (encoded.n_cut_questions, encoded.n_cut_answers) == (0, 1)


def test_a_question_is_cut_before_the_answer():
    encoded = quietly([QuestionAnswer(LONG.question, "A disease.")], max_length=64)
    assert (encoded.n_cut_questions, encoded.n_cut_answers) == (1, 0)
    assert 60 <= encoded.lengths[0] <= 64
    assert TOKENIZER.decode(encoded[0]["input_ids"]).endswith(" ### Assistant: A disease.<|endoftext|>")


def test_both_are_cut_and_the_question_keeps_its_share():
    encoded = quietly([LONG], max_length=64)
    assert (encoded.n_cut_questions, encoded.n_cut_answers) == (1, 1)
    assert FRAME + 12 <= n_prompt(encoded[0]) <= FRAME + 16
    assert encoded.lengths == (64,)


@pytest.mark.parametrize("max_length", [60, 64, 80, 100])
def test_the_share_of_the_question_is_a_quarter(max_length):
    kept = n_prompt(quietly([LONG], max_length=max_length)[0])
    assert FRAME + max_length // 4 - 2 <= kept <= FRAME + max_length // 4


def test_a_row_that_just_fits_is_not_cut():
    row = QuestionAnswer("What is acne?", "A disease of the skin.")
    (length,) = encode_rows([row], TOKENIZER).lengths
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encode_rows([row], TOKENIZER, max_length=length)[0] == encode_rows([row], TOKENIZER)[0]
    with pytest.warns(RankSelectWarning, match=f"the longest row has {length} tokens"):
        cut = encode_rows([row], TOKENIZER, max_length=length - 1)
    assert (cut.n_cut_questions + cut.n_cut_answers, cut.max_length) == (1, length - 1)


def test_tokens_that_carry_loss_are_all_but_the_first_if_the_prompt_is_learned_too():
    encoded = encode_rows(medical_qa()[:5], TOKENIZER, loss_on="all")
    assert encoded.n_loss_tokens == sum(encoded.lengths) - 5
    assert encoded.max_length == 512


def test_the_room_of_a_refused_answer_is_what_its_prompt_leaves():
    row = QuestionAnswer("What is acne?", LONG.answer)
    prompt = len(TOKENIZER(PromptTemplate().prompt(row.question))["input_ids"])
    with pytest.raises(DataError, match=rf"row 0: {64 - prompt} tokens after its prompt"):
        encode_rows([row], TOKENIZER, max_length=64, long_answers="error")


def test_one_token_is_a_length_but_too_few_for_the_template():
    with pytest.raises(DataError, match=r"0 tokens for the prompt \(max_length 1 less one for the answer\)"):
        encode_rows(medical_qa()[:1], TOKENIZER, max_length=1)


class Letters:
    """A tokenizer of letters: a mark before and after a text with special tokens, and a space put before every text."""

    eos_token_id = 0

    def __call__(self, texts, *, add_special_tokens, verbose):
        assert not verbose
        mark = [1] if add_special_tokens else []
        return {"input_ids": [[*mark, 32, *map(ord, text), *([0] if mark else [])] for text in texts]}

    def convert_ids_to_tokens(self, ids):
        return [chr(each) for each in ids]


class Pairs(Letters):
    """One that joins a colon with the space behind it to one token."""

    def __call__(self, texts, **options):
        return super().__call__([text.replace(": ", "\u2236") for text in texts], **options)


def test_a_prompt_keeps_the_mark_before_it_and_loses_the_one_after_it():
    template = PromptTemplate("Q: {question} A: {answer}")
    assert PromptTokens(Letters(), template).prompts(["", "why"]) == [
        [1, 32, *map(ord, "Q:  A:")],
        [1, 32, *map(ord, "Q: why A:")],
    ]


def test_an_answer_gets_no_second_space_and_stays_whole_where_it_joins_the_prompt():
    template = PromptTemplate("Q: {question} A: {answer}!")
    assert PromptTokens(Letters(), template).answers(["so", "no"]) == [[*map(ord, " so!")], [*map(ord, " no!")]]
    assert PromptTokens(Pairs(), template).answers(["so"]) == [[32, *map(ord, " so!")]]


def test_a_question_is_cut_at_the_letter():
    tokens = PromptTokens(Letters(), PromptTemplate("{question}:{answer}"))
    for kept in range(7):
        expected = [1, 32, *map(ord, "abc ef"[:kept].rstrip() + ":")]
        assert tokens.cut_prompt("abc ef", 3 + kept) == expected
    assert tokens.cut_prompt("", 3) == [1, 32, 58]
    assert tokens.cut_prompt("a", 4) == [1, 32, 97, 58]


def test_one_warning_for_all_rows():
    with pytest.warns(RankSelectWarning) as caught:
        encoded = encode_rows([LONG] * 5, TOKENIZER, max_length=64)
    assert len(caught) == 1
    assert str(caught[0].message) == (
        f"5 questions and 5 answers of 5 rows were cut at the end: the longest row has {encoded.longest} tokens, "
        "max_length is 64."
    )


def test_long_answers_can_be_refused():
    rows = [*medical_qa()[:1], LONG]
    with pytest.raises(DataError, match=r"answers that fit \(row 1: \d+ tokens after its prompt\), got one of \d+"):
        encode_rows(rows, TOKENIZER, max_length=128, long_answers="error")


def test_the_template_alone_is_too_long():
    with pytest.raises(DataError, match=rf"own {FRAME} tokens and an answer, got {FRAME - 1} .*Raise max_length or"):
        encode_rows(medical_qa()[:1], TOKENIZER, max_length=FRAME)
    assert quietly(medical_qa()[:1], max_length=FRAME + 1).lengths == (FRAME + 1,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_length": 513}, "max_length of at most 512, the most that the model reads, got 513. Lower it"),
        ({"max_length": 0}, "max_length of at least 1, got 0"),
        ({"max_length": 200, "model": tiny_model()}, "max_length of at most 128"),
        ({"loss_on": "question"}, "'answer' or 'all' for loss_on, got 'question'"),
        ({"long_answers": "drop"}, "'cut' or 'error' for long_answers, got 'drop'"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        encode_rows(medical_qa()[:1], TOKENIZER, **arguments)


def test_no_rows():
    with pytest.raises(DataError, match="at least one question with its answer, got none"):
        encode_rows([], TOKENIZER)


@pytest.fixture
def bare():
    """A tokenizer of whole words without any special token."""
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = tokenizer.pad_token = None
    return tokenizer


def test_a_tokenizer_without_an_end(bare):
    with pytest.raises(DataError, match=r"a tokenizer with an end-of-text token \(eos_token\), got one without"):
        encode_rows(medical_qa()[:1], bare, max_length=64)


def test_padding_falls_back_on_the_end(bare):
    bare.eos_token = "<s>"
    assert filler_token(None, bare) == bare.eos_token_id == 1
    bare.pad_token = "the"
    assert filler_token(None, bare) == bare.pad_token_id != 1


def test_an_answer_without_tokens(bare):
    bare.eos_token = "<s>"
    with pytest.raises(DataError, match=r"answers of at least one token, got none \(row 1\)"):
        encode_rows([QuestionAnswer("a", "heart"), QuestionAnswer("a", "\u2009")], bare, max_length=64)


def test_a_data_set_of_rows():
    rows = medical_qa()[:5]
    encoded = encode_rows(rows, TOKENIZER)
    assert isinstance(encoded, torch.utils.data.Dataset)
    assert len(encoded) == 5
    assert encoded.lengths == tuple(len(row["input_ids"]) for row in encoded)
    assert encoded.n_loss_tokens == sum(len(TOKENIZER(f" {row.answer}")["input_ids"]) + 1 for row in rows)
    assert encoded[4] == encode_rows(rows[4:], TOKENIZER)[0]
    loader = torch.utils.data.DataLoader(encoded, batch_size=5, collate_fn=AnswerCollator(0))
    assert next(iter(loader))["input_ids"].shape == (5, max(encoded.lengths))


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=4))
def test_padding_is_masked_and_carries_no_loss(rows):
    batch = AnswerCollator(0)([{"input_ids": ids, "labels": ids} for ids in rows])
    for index, ids in enumerate(rows):
        mask = batch["attention_mask"][index].bool()
        assert batch["attention_mask"][index].max() == 1
        assert mask.tolist() == [True] * len(ids) + [False] * (mask.numel() - len(ids))
        assert batch["input_ids"][index][mask].tolist() == batch["labels"][index][mask].tolist() == ids
        assert (batch["labels"][index][~mask] == IGNORED).all()
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


@pytest.mark.assets
@given(TEXT.filter(lambda text: "<" not in text), TEXT.filter(lambda text: "<" not in text))
def test_a_sentencepiece_vocabulary_gets_no_second_space(assets, question, answer):
    tokenizer = AutoTokenizer.from_pretrained(assets / "models" / "stories260k")
    [row] = encode_rows([QuestionAnswer(question, answer)], tokenizer)
    whole = tokenizer(PromptTemplate().text(question, answer))["input_ids"]
    assert row["input_ids"] == [*whole, tokenizer.eos_token_id]
    assert n_prompt(row) == len(tokenizer(PromptTemplate().prompt(question))["input_ids"])


@pytest.mark.assets
def test_a_line_break_before_the_answer(assets):
    tokenizer = AutoTokenizer.from_pretrained(assets / "models" / "stories260k")
    template = PromptTemplate("Q: {question}\nA:\n{answer}\n")
    encode = PromptTokens(tokenizer, template)
    ids = [*encode.prompts(["who?"])[0], *encode.answers(["hi"])[0]]
    assert ids == tokenizer("Q: who?\nA:\nhi\n")["input_ids"]
