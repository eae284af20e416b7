"""What a trainer is given: rows are encoded as asked, tokens pass through; and how many tokens there is room for."""

from __future__ import annotations

import warnings

import pytest

from rankselect.data.datasets import training_data
from rankselect.data.encoding import encode_rows
from rankselect.data.prompt_tokens import PromptTokens, context_length, row_length
from rankselect.data.prompts import PromptTemplate, QuestionAnswer
from rankselect.data.sources import check_name, read_samples
from rankselect.errors import ArgumentError, DataError, RankSelectWarning
from rankselect.models.suitability import filler_token
from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

TEMPLATE = PromptTemplate("Q: {question} A: {answer}")
MODEL, TOKENIZER = tiny_model(), tiny_tokenizer()
ROWS = [QuestionAnswer(f"why {index}", text) for index, text in enumerate(tiny_texts(6))]
OTHERS = [QuestionAnswer("how", text) for text in tiny_texts(2, seed=1)]
TOKENS = [{"input_ids": [1, 2], "labels": [1, 2]}]


def data(train, evaluation=None, tokenizer=TOKENIZER, **values):
    how = {"model": MODEL, "template": TEMPLATE, "max_length": 32, "loss_on": "answer", **values}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* were cut at the end")
        return training_data(train, evaluation, tokenizer, **how)


@pytest.mark.parametrize("loss_on", ["answer", "all"])
def test_rows_are_encoded_as_asked(loss_on):
    found = data(ROWS, tuple(OTHERS), loss_on=loss_on)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = [
            list(encode_rows(rows, TOKENIZER, template=TEMPLATE, max_length=32, loss_on=loss_on, model=MODEL))
            for rows in (ROWS, OTHERS)
        ]
    assert [list(found.train), list(found.evaluation)] == expected
    assert found.rows == tuple(ROWS)
    assert found.collator.pad_token_id == filler_token(None, TOKENIZER)


def test_tokens_pass_through():
    found = data(TOKENS, None, tokenizer=None)
    assert found.train is TOKENS
    assert (found.evaluation, found.collator, found.rows) == (None, None, ())


def test_rows_and_tokens_side_by_side():
    found = data(TOKENS, OTHERS)
    assert found.train is TOKENS
    assert (len(found.evaluation), found.rows) == (2, ())
    assert found.collator.pad_token_id == filler_token(None, TOKENIZER)
    found = data(ROWS, TOKENS)
    assert (len(found.train), len(found.rows)) == (6, 6)
    assert found.evaluation is TOKENS


def test_what_is_wrong_is_said():
    with pytest.raises(ArgumentError, match=r"a tokenizer for question-answer rows, got none"):
        data(ROWS, tokenizer=None)
    with pytest.raises(ArgumentError, match="max_length of at most 128"):
        data(ROWS, max_length=129)
    with pytest.warns(RankSelectWarning, match="1 of 3 evaluation questions are in the training data too"):
        data(ROWS, [*OTHERS, ROWS[3]])


def test_a_row_has_what_was_wanted_or_512_tokens_or_what_the_model_reads():
    assert row_length(MODEL, TOKENIZER, 700) == 700
    assert row_length(MODEL, TOKENIZER, None) == context_length(MODEL, TOKENIZER) == 128
    wide, wider = tiny_model(), tiny_model()
    wide.config.max_position_embeddings, wider.config.max_position_embeddings = 512, 4096
    assert (row_length(wide, TOKENIZER, None), row_length(wider, TOKENIZER, None)) == (512, 512)


def test_a_model_without_a_limit_has_room_for_everything():
    model = tiny_model()
    model.config.max_position_embeddings = 2_000_000
    assert context_length(model, TOKENIZER) is None
    assert row_length(model, TOKENIZER, None) == 512
    assert PromptTokens(TOKENIZER, TEMPLATE).room(model, 100) is None
    assert context_length(None, TOKENIZER) is None


def test_a_prompt_has_the_context_less_the_answer():
    tokens = PromptTokens(TOKENIZER, TEMPLATE)
    frame = len(tokens.prompts([""])[0])
    assert tokens.room(MODEL, 100) == 28
    assert tokens.room(MODEL, 128 - frame) == frame
    with pytest.raises(DataError, match="a context of 128 less max_new_tokens 126.*Lower max_new_tokens or shorten"):
        tokens.room(MODEL, 126)
    with pytest.raises(DataError, match=f"room for the template's own {frame} tokens"):
        tokens.room(MODEL, 128 - frame + 1)


def test_as_much_of_a_question_is_kept_as_fits():
    tokens = PromptTokens(TOKENIZER, TEMPLATE)
    question = " ".join(tiny_texts(3))
    whole = tokens.prompts([question])[0]
    frame = len(tokens.prompts([""])[0])
    for budget in (frame, frame + 1, frame + 5, len(whole) - 1, len(whole)):
        assert len(tokens.cut_prompt(question, budget)) == budget
    assert tokens.cut_prompt(question, len(whole) + 9) == whole
    assert tokens.cut_prompt(question, frame) == tokens.prompts([""])[0]


class Table(list):
    """Rows with the names of their columns, as `datasets` has them."""

    column_names = ("question", "answer")


@pytest.fixture
def asked(monkeypatch):
    """What `datasets` was asked for."""
    datasets = pytest.importorskip("datasets")
    calls = []

    def load_dataset(name, *configuration, split):
        calls.append((name, *configuration, split))
        return Table([{"question": "a", "answer": "b"}])

    monkeypatch.setattr(datasets, "disable_progress_bars", lambda: calls.append("no bars"))
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("owner/set", ("owner/set", "dev")),
        ("owner/set:test", ("owner/set", "test")),
        ("set:train[:90%]", ("set", "train[:90%]")),
        ("owner/set:main[test]", ("owner/set", "main", "test")),
        ("set:2020.v1[train[10%:]]", ("set", "2020.v1", "train[10%:]")),
    ],
)
def test_configuration_and_split_stand_behind_the_last_part_of_a_name(asked, name, found):
    assert list(read_samples(name, split="dev")) == [(f"{name}, row 0", {"question": "a", "answer": "b"})]
    assert asked == [found]


@pytest.mark.parametrize("progress", [True, False])
def test_bars_of_datasets_are_shown_unless_they_are_not_wanted(asked, progress):
    list(read_samples("owner/set:test", progress=progress))
    assert asked == ["no bars"] * (not progress) + [("owner/set", "test")]
    asked.clear()
    list(read_samples("owner/set"))
    assert asked == [("owner/set", "train")]


def test_a_file_that_does_not_exist_is_known_by_its_suffix(tmp_path):
    (tmp_path / "rows").write_text("", encoding="utf-8")
    for name in (tmp_path, tmp_path / "rows", "owner/set", "owner/set:test"):
        check_name(str(name))
    for end in ("jsonl", "json", "csv", "tsv", "txt", "parquet", "gz"):
        with pytest.raises(DataError, match=rf"a file of rows, got none\.{end}, which does not exist"):
            check_name(f"none.{end}")
