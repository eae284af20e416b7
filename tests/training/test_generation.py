"""Generated answers: the same in any batch, stopped in the right place, and no lasting change of the model."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertModel, GenerationConfig, T5Config, T5ForConditionalGeneration

from rankselect.data.medical_qa import medical_qa
from rankselect.data.prompts import PromptTemplate, QuestionAnswer
from rankselect.data.rows import load_rows
from rankselect.errors import ArgumentError, DataError, ModelError, OutOfMemoryError, RankSelectWarning
from rankselect.models.evaluation_mode import evaluating
from rankselect.models.loading import load_model, load_tokenizer
from rankselect.models.suitability import require_causal
from rankselect.testing import tiny_model, tiny_tokenizer
from rankselect.training.generation import StopTexts, _end_of, before_stop, generate_answers
from rankselect.training.out_of_memory import shrinking_batches

QUESTIONS = ["what is a heart", "is a fever rare", "may a new drug treat pain of the old lung", "what"]


@pytest.fixture
def tokenizer():
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = "<s>"
    return tokenizer


@pytest.fixture
def model():
    return tiny_model()


def answers(model, tokenizer, questions=QUESTIONS, **arguments):
    arguments = {"max_new_tokens": 12, "progress": False, **arguments}
    return generate_answers(model, tokenizer, questions, **arguments)


def texts(*arguments, **named):
    return [answer.text for answer in answers(*arguments, **named)]


def writes(model, token):
    """Make a model write the same token after any input."""
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.weight[token] = 1.0
        model.model.norm.weight.fill_(1.0)
        model.get_input_embeddings().weight.fill_(1.0)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    return model


def by_hand(model, tokenizer, question, n):
    """Greedy search without batches, padding, cache or `generate`."""
    ids = tokenizer(PromptTemplate().prompt(question))["input_ids"]
    start = len(ids)
    with torch.no_grad():
        while len(ids) < start + n and tokenizer.eos_token_id not in ids[start:]:
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return tokenizer.decode(ids[start:], skip_special_tokens=True).strip()


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_greedy_answers_are_the_same_in_any_batch(tokenizer, architecture):
    model = tiny_model(architecture)
    expected = [by_hand(model, tokenizer, question, 12) for question in QUESTIONS]
    assert texts(model, tokenizer, batch_size=1) == texts(model, tokenizer, batch_size=8) == expected
    assert texts(model, tokenizer, QUESTIONS[::-1], batch_size=3) == expected[::-1]


@pytest.mark.assets
def test_real_weights_give_the_same_answers_in_any_batch(assets):
    name = assets / "models" / "stories260k"
    model, tokenizer = load_model(name, device_map="cpu"), load_tokenizer(name)
    questions = [row.question for row in load_rows(assets / "data" / "medquad" / "eval.jsonl")[:12]]
    one = texts(model, tokenizer, questions, batch_size=1, max_new_tokens=32)
    assert one == texts(model, tokenizer, questions, batch_size=8, max_new_tokens=32)
    assert one == [by_hand(model, tokenizer, question, 32) for question in questions]
    assert len(set(one)) > 6
    for question in ("Once upon a time", "Lily"):
        written = texts(model, tokenizer, [question], max_new_tokens=40)
        assert " ".join(written).isascii()


def test_every_answer_says_how_it_ended_and_how_long_it_took(model, tokenizer):
    found = answers(model, tokenizer)
    assert {answer.stopped_by for answer in found} <= {"end", "length"}
    assert all(answer.n_tokens == 12 for answer in found if answer.stopped_by == "length")
    assert all(answer.seconds > 0 for answer in found)


def test_progress_counts_answers(model, tokenizer, capsys):
    answers(model, tokenizer, batch_size=2, progress=True)
    assert f"{len(QUESTIONS)}/{len(QUESTIONS)}" in capsys.readouterr().err
    answers(model, tokenizer, progress=False)
    assert capsys.readouterr().err == ""


def test_the_end_of_text_ends_an_answer(model, tokenizer):
    [answer] = answers(writes(model, tokenizer.eos_token_id), tokenizer, ["what"])
    assert (answer.text, answer.n_tokens, answer.stopped_by) == ("", 1, "end")


def test_the_models_own_end_tokens_count_too(model, tokenizer):
    model.generation_config.eos_token_id = [tokenizer.convert_tokens_to_ids("heart")]
    [answer] = answers(writes(model, tokenizer.convert_tokens_to_ids("heart")), tokenizer, ["what"])
    assert (answer.n_tokens, answer.stopped_by) == (1, "end")


def test_a_stop_text_ends_an_answer_and_is_not_part_of_it(model, tokenizer):
    writes(model, tokenizer.convert_tokens_to_ids("pain"))
    [free] = answers(model, tokenizer, ["what"], max_new_tokens=5)
    assert (free.text, free.n_tokens, free.stopped_by) == ("pain pain pain pain pain", 5, "length")
    for stop, text, n_tokens in (("pain pain", "", 2), (" pain pain pain", "pain", 4)):
        template = PromptTemplate(stop=("nothing", stop))
        [answer] = answers(model, tokenizer, ["pain pain pain"], template=template)
        assert (answer.text, answer.n_tokens, answer.stopped_by) == (text, n_tokens, "stop")


def test_rows_stop_independently(tokenizer):
    heart, lung = (tokenizer.convert_tokens_to_ids(word) for word in ("heart", "lung"))
    criterion = StopTexts(tokenizer, ["lung heart"], n_prompt=2)
    prompts = [[lung, heart], [lung, heart]]
    assert criterion(torch.tensor([[*prompts[0], heart], [*prompts[1], lung]]), None).tolist() == [False, False]
    after = torch.tensor([[*prompts[0], heart, heart], [*prompts[1], lung, heart]])
    assert criterion(after, None).tolist() == [False, True]
    padded = torch.tensor([[*prompts[0], heart, heart, lung], [*prompts[1], lung, heart, 0]])
    assert criterion(padded, None).tolist() == [False, True]
    assert criterion.n_written == {1: 2}


@pytest.mark.parametrize(
    ("ids", "n_stop", "expected"),
    [
        ([5, 6, 7], None, (3, "length")),
        ([5, 2, 0], None, (2, "end")),
        ([5, 6, 2], 2, (2, "stop")),  # the padding is the end token
        ([5, 2, 0], 3, (2, "end")),  # the padding looks like a stop text
    ],
)
def test_where_a_row_ends(ids, n_stop, expected):
    assert _end_of(ids, n_stop, [2]) == expected


def test_text_before_the_first_stop():
    assert before_stop("a b c", ["c", "b"]) == "a "
    assert before_stop("a b c", ["d"]) == before_stop("a b c", []) == "a b c"


def test_a_model_with_an_adapter_merged_and_unmerged(model, tokenizer):
    plain = texts(model, tokenizer)
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    adapted = get_peft_model(copy.deepcopy(model), config)
    unmerged = texts(adapted, tokenizer)
    assert unmerged != plain
    with adapted.disable_adapter():
        assert texts(adapted, tokenizer) == plain
    assert texts(adapted.merge_and_unload(), tokenizer) == unmerged


def test_everything_is_left_as_it_was(model, tokenizer):
    model.gradient_checkpointing_enable()
    model.train()
    model.model.layers[0].eval()
    model.generation_config = own = GenerationConfig(do_sample=True, temperature=3.0, repetition_penalty=9.0, top_k=3)
    tokenizer.padding_side = "right"
    modes = [module.training for module in model.modules()]
    torch.manual_seed(123)
    state, weights = torch.get_rng_state(), copy.deepcopy(model.state_dict())
    first = answers(model, tokenizer)
    assert model.generation_config is own
    assert own == GenerationConfig(do_sample=True, temperature=3.0, repetition_penalty=9.0, top_k=3)
    assert [module.training for module in model.modules()] == modes
    assert model.is_gradient_checkpointing
    assert torch.equal(torch.get_rng_state(), state)
    assert tokenizer.padding_side == "right"
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [answer.text for answer in first] == texts(tiny_model(), tokenizer)


def test_everything_is_restored_after_an_error(model, tokenizer, monkeypatch):
    model.train()
    own = model.generation_config
    monkeypatch.setattr(model, "forward", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        answers(model, tokenizer)
    assert model.training
    assert model.generation_config is own


@pytest.fixture
def dropping(model):
    """A model whose adapter drops half of its input."""
    config = LoraConfig(
        r=8,
        lora_alpha=512,
        target_modules="all-linear",
        init_lora_weights=False,
        lora_dropout=0.5,
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(0)
    return get_peft_model(model, config)


def test_dropout_is_off_by_default_and_depends_on_the_seed(dropping, tokenizer):
    dropping.train()
    plain = texts(dropping, tokenizer)
    assert plain == texts(dropping, tokenizer, seed=1)
    with_dropout = texts(dropping, tokenizer, dropout=True)
    assert with_dropout == texts(dropping, tokenizer, dropout=True)
    assert with_dropout != plain
    assert with_dropout != texts(dropping, tokenizer, dropout=True, seed=1)


def test_dropout_inside_attention_is_dropout_too(tokenizer):
    model = tiny_model()
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    with evaluating(model, dropout=True):
        trained = {name for name, module in model.named_modules() if module.training}
    assert trained == {"model.layers.0.self_attn", "model.layers.1.self_attn"}
    gpt2 = tiny_model("gpt2")
    plain = texts(gpt2, tokenizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert texts(gpt2, tokenizer, dropout=True) != plain


def test_the_cache_works_with_gradient_checkpointing(tokenizer, monkeypatch):
    gpt2 = tiny_model("gpt2")
    gpt2.gradient_checkpointing_enable()
    gpt2.train()
    require_causal(gpt2)  # runs the model on a few tokens, once
    forward, lengths = gpt2.forward, []

    def watched(*args, **kwargs):
        lengths.append(kwargs["input_ids"].shape[1])
        return forward(*args, **kwargs)

    monkeypatch.setattr(gpt2, "forward", watched)
    with evaluating(gpt2, dropout=True):
        assert not gpt2.is_gradient_checkpointing
    texts(gpt2, tokenizer, ["what"], dropout=True)
    assert set(lengths[1:]) == {1}
    assert gpt2.is_gradient_checkpointing


def test_dropout_in_a_model_without_dropout_is_a_warning(model, tokenizer):
    with pytest.warns(RankSelectWarning, match="dropout=True changes nothing: the model has no dropout"):
        with_dropout = texts(model, tokenizer, dropout=True)
    assert with_dropout == texts(model, tokenizer)


def test_sampling_repeats_with_its_seed(model, tokenizer):
    sampled = texts(model, tokenizer, temperature=1.0)
    assert sampled == texts(model, tokenizer, temperature=1.0)
    assert sampled != texts(model, tokenizer, temperature=1.0, seed=1)
    assert texts(model, tokenizer, temperature=1e-4) == texts(model, tokenizer)


def test_long_questions_are_cut_to_leave_room(model, tokenizer, monkeypatch):
    words = ["heart", "lung"] * 100
    frame = len(tokenizer(PromptTemplate().prompt(""))["input_ids"])
    room = 128 - 12
    require_causal(model)
    forward, prompts = model.forward, []

    def watched(*args, **kwargs):
        prompts.append(kwargs["input_ids"])
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", watched)
    with pytest.warns(
        RankSelectWarning, match=rf"1 of 2 questions were cut at the end: .* {200 + frame} tokens.* {room}\."
    ):
        texts(model, tokenizer, ["what", " ".join(words)])
    expected = tokenizer(PromptTemplate().prompt(" ".join(words[: room - frame])))["input_ids"]
    assert len(expected) == room
    assert prompts[0][0].tolist() == expected


def test_no_room_for_the_template(model, tokenizer):
    with pytest.raises(DataError, match=r"got 0 tokens for the prompt \(a context of 128 less .* Lower max_new_tokens"):
        answers(model, tokenizer, max_new_tokens=128)


def test_running_out_of_memory_halves_the_batch(model, tokenizer, monkeypatch):
    expected, forward, seen = texts(model, tokenizer), model.forward, []

    def limited(*args, **kwargs):
        seen.append(len(kwargs["input_ids"]))
        if seen[-1] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", limited)
    assert texts(model, tokenizer) == expected
    assert seen[:3] == [4, 2, 1]


def test_one_row_that_does_not_fit(model, tokenizer, monkeypatch):
    def forward(*args, **kwargs):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    monkeypatch.setattr(model, "forward", forward)
    with pytest.raises(OutOfMemoryError, match="memory for one row at a time, got too little .*DefaultCPUAllocator"):
        answers(model, tokenizer)


def test_other_errors_are_not_treated_as_out_of_memory():
    def run(batch):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(shrinking_batches([1, 2], 2, run))


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ([], "a list of questions, got none"),
        ("what", "a list of questions, got .what., a str"),
        (["what", " "], "questions with words, got an empty one at index 1"),
        ([None], "questions with words, got a NoneType at index 0"),
    ],
)
def test_invalid_questions(model, tokenizer, questions, message):
    with pytest.raises(DataError, match=message):
        answers(model, tokenizer, questions)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens of at least 1, got 0"),
        ({"batch_size": 0}, "a batch size of at least 1, got 0"),
        ({"temperature": 0.0}, "a temperature above 0, or None, got 0.0"),
        ({"temperature": float("nan")}, "a temperature above 0, or None, got nan"),
    ],
)
def test_arguments_out_of_range(model, tokenizer, arguments, message):
    with pytest.raises(ArgumentError, match=message):
        answers(model, tokenizer, **arguments)


def test_a_tokenizer_without_an_end(model):
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(DataError, match="a tokenizer with an end-of-text token"):
        answers(model, tokenizer)


def test_models_that_do_not_generate(tokenizer):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    t5 = T5Config(vocab_size=30, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    for model in (BertModel(BertConfig(**sizes, vocab_size=30)), T5ForConditionalGeneration(t5), torch.nn.Linear(2, 2)):
        with pytest.raises(
            ModelError, match=f"expected a causal language model.*, got a {type(model).__name__}, which"
        ):
            answers(model, tokenizer)


def test_rows_can_be_passed_as_questions(model, tokenizer):
    mappings = [{"question": question} for question in QUESTIONS]
    rows = [QuestionAnswer(question, "") for question in QUESTIONS]
    assert texts(model, tokenizer, mappings) == texts(model, tokenizer, rows) == texts(model, tokenizer)


def test_the_embedded_questions(model, tokenizer):
    questions = [pair.question for pair in medical_qa()[:3]]
    assert len(texts(model, tokenizer, questions)) == 3
