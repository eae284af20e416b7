"""Whether a model fits the work: causal or not, its embeddings, processors in place of tokenizers, several towers."""

from __future__ import annotations

import logging
from typing import ClassVar

import pytest
import torch
import transformers as tf

import rankselect as rs
from rankselect.data.encoding import encode_rows
from rankselect.errors import ModelError
from rankselect.models.layers import other_towers
from rankselect.models.suitability import filler_token, require_causal, require_embedded, tokenizer_of
from rankselect.plan.targets import find_targets
from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer
from rankselect.training.answer_losses import answer_losses

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
TEXT = SIZES | {"num_key_value_heads": 2, "head_dim": 8}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 8,
}
ROWS = [rs.QuestionAnswer("What is a fever?", "A fever is heat.")] * 8

NOT_CAUSAL = {
    "which is an encoder-decoder": [
        lambda: tf.BartForConditionalGeneration(
            tf.BartConfig(vocab_size=64, d_model=16, encoder_layers=1, decoder_layers=1, decoder_start_token_id=2)
        ),
        lambda: tf.T5ForConditionalGeneration(tf.T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1)),
    ],
    "which does not generate text": [
        lambda: tf.ElectraForMaskedLM(tf.ElectraConfig(**SIZES, embedding_size=32)),
        lambda: tf.RobertaForMaskedLM(tf.RobertaConfig(**SIZES)),
    ],
    "which has no language-model head": [
        lambda: tf.Qwen2Model(tf.Qwen2Config(**SIZES, num_key_value_heads=2)),
        lambda: tf.LlamaForSequenceClassification(tf.LlamaConfig(**SIZES)),
    ],
    "whose output for a token depends on later tokens": [
        lambda: tf.BertLMHeadModel(tf.BertConfig(**SIZES)),
        lambda: tf.ElectraForCausalLM(tf.ElectraConfig(**SIZES, embedding_size=32)),
        lambda: tf.XLNetLMHeadModel(tf.XLNetConfig(vocab_size=64, d_model=32, n_layer=2, n_head=4, d_inner=64)),
    ],
}


@pytest.mark.parametrize(("why", "make"), [(why, make) for why, makes in NOT_CAUSAL.items() for make in makes])
def test_models_that_would_see_the_answers_are_refused(why, make, tmp_path):
    model, tokenizer = make(), tiny_tokenizer()
    message = f"expected a causal language model.* got a {type(model).__name__}, {why}"
    arguments = tf.TrainingArguments(tmp_path, max_steps=1, report_to="none", use_cpu=True)
    for work in (
        lambda: rs.RankSelectTrainer(
            model, arguments, strategy=rs.Fixed(2), train_dataset=ROWS, processing_class=tokenizer
        ),
        lambda: encode_rows(ROWS, tokenizer, model=model, max_length=64),
        lambda: answer_losses(model, tokenizer, ROWS),
        lambda: rs.generate_answers(model, tokenizer, ["What is a fever?"], max_new_tokens=8, progress=False),
    ):
        with pytest.raises(ModelError, match=message):
            work()


@pytest.mark.parametrize(
    "make",
    [
        tiny_model,
        lambda: tiny_model("gpt2"),
        lambda: tf.BertLMHeadModel(tf.BertConfig(**SIZES, is_decoder=True)),
        lambda: tf.MambaForCausalLM(tf.MambaConfig(vocab_size=64, hidden_size=16, state_size=4, num_hidden_layers=2)),
        lambda: tf.MixtralForCausalLM(tf.MixtralConfig(**SIZES, num_key_value_heads=2, num_local_experts=2)),
        lambda: tiny_model().to(torch.bfloat16),
        lambda: rs.empty_model(tiny_model().config),
    ],
)
def test_causal_models_are_accepted(make):
    model = make()
    modes = [module.training for module in model.modules()]
    require_causal(model)
    assert [module.training for module in model.modules()] == modes


def test_a_model_that_reads_other_inputs_trains_on_its_own_data(tmp_path):
    whisper = tf.WhisperForConditionalGeneration(
        tf.WhisperConfig(
            **{name: SIZES[name] for name in ("vocab_size", "pad_token_id", "bos_token_id", "eos_token_id")},
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            max_source_positions=50,
            max_target_positions=40,
            num_mel_bins=8,
            decoder_start_token_id=1,
            suppress_tokens=None,
            begin_suppress_tokens=None,
        )
    )
    samples = [{"input_features": torch.randn(8, 100), "labels": torch.tensor([5, 6, 7])} for _ in range(8)]
    arguments = tf.TrainingArguments(tmp_path, max_steps=2, report_to="none", disable_tqdm=True, use_cpu=True)
    trainer = rs.RankSelectTrainer(whisper, arguments, strategy=rs.Fixed(4), train_dataset=samples)
    assert trainer.train().training_loss > 0
    with pytest.raises(
        ModelError, match="a model that reads texts, got a WhisperFor.*, which reads input_features. Pass"
    ):
        rs.id_profile(whisper, tiny_tokenizer(), tiny_texts(40), progress=False)


@pytest.mark.filterwarnings("ignore:The order of the layers:rankselect.RankSelectWarning")
def test_clip_reads_texts_alone():
    clip = tf.CLIPModel(
        tf.CLIPConfig(
            text_config=SIZES | {"projection_dim": 16, "max_position_embeddings": 77},
            vision_config=VISION,
            projection_dim=16,
        )
    )
    profile = rs.id_profile(clip, tiny_tokenizer(), tiny_texts(40), progress=False)
    assert profile.layers == ("text_model.encoder.layers.0", "text_model.encoder.layers.1")


class Processor(tf.ProcessorMixin):
    attributes: ClassVar[list[str]] = ["tokenizer"]
    tokenizer_class = "AutoTokenizer"

    def __init__(self, tokenizer):
        super().__init__(tokenizer)


@pytest.mark.filterwarnings("ignore:The order of the layers:rankselect.RankSelectWarning")
def test_a_processor_stands_for_its_tokenizer(tmp_path):
    tokenizer = tiny_tokenizer()
    processor = Processor(tokenizer)
    assert tokenizer_of(processor) is tokenizer
    texts, model = tiny_texts(40), tiny_model()
    by_both = [rs.id_profile(model, each, texts, progress=False).values.tolist() for each in (processor, tokenizer)]
    assert by_both[0] == by_both[1]
    assert answer_losses(model, processor, ROWS[:1]) == answer_losses(model, tokenizer, ROWS[:1])
    questions = ["What is a fever?", "What?"]
    answers = [
        [each.text for each in rs.generate_answers(model, one, questions, max_new_tokens=4, progress=False)]
        for one in (processor, tokenizer)
    ]
    assert answers[0] == answers[1]
    arguments = tf.TrainingArguments(tmp_path / "run", max_steps=1, report_to="none", disable_tqdm=True, use_cpu=True)
    trainer = rs.RankSelectTrainer(
        model, arguments, strategy=rs.Fixed(2), train_dataset=ROWS, processing_class=processor
    )
    trainer.train()
    assert trainer.record.tokens > 0


def test_a_token_without_an_embedding_is_named():
    model, tokenizer = tiny_model(), tiny_tokenizer()
    tokenizer.add_tokens(["zebra"])
    n = model.get_input_embeddings().num_embeddings
    message = (
        f"token ids below {n}, the number of the model's embeddings, got {n}, the token 'zebra'. .*resize_token_emb"
    )
    row = rs.QuestionAnswer("What is a zebra ?", "A fever.")
    for work in (
        lambda: encode_rows([row], tokenizer, model=model, max_length=64),
        lambda: answer_losses(model, tokenizer, [row]),
        lambda: rs.generate_answers(model, tokenizer, [row.question], max_new_tokens=8, progress=False),
        lambda: rs.id_profile(model, tokenizer, [*tiny_texts(40), "A zebra"], progress=False),
    ):
        with pytest.raises(ModelError, match=message):
            work()
    require_embedded(None, tokenizer, [[10**6]])  # nothing is known yet
    model.resize_token_embeddings(len(tokenizer))
    assert len(encode_rows([row], tokenizer, model=model, max_length=64)) == 1


def test_padding_may_use_any_token_inside():
    model, tokenizer = tiny_model(), tiny_tokenizer()
    expected = [answer_losses(model, tokenizer, [row])[0] for row in (ROWS[0], rs.QuestionAnswer("What?", "A fever."))]
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert filler_token(model, tokenizer) < model.get_input_embeddings().num_embeddings <= tokenizer.pad_token_id
    found = answer_losses(model, tokenizer, [ROWS[0], rs.QuestionAnswer("What?", "A fever.")])
    assert found == pytest.approx(expected, rel=1e-5)


MULTIMODAL = {
    "llava": lambda: tf.LlavaForConditionalGeneration(
        tf.LlavaConfig(
            text_config=tf.LlamaConfig(**TEXT), vision_config=tf.CLIPVisionConfig(**VISION), image_token_index=60
        )
    ),
    "gemma3": lambda: tf.Gemma3ForConditionalGeneration(
        tf.Gemma3Config(
            text_config=TEXT | {"sliding_window": 16}, vision_config=VISION, image_token_index=60, mm_tokens_per_image=4
        )
    ),
    "idefics3": lambda: tf.Idefics3ForConditionalGeneration(
        tf.Idefics3Config(
            text_config=TEXT | {"model_type": "llama"}, vision_config=VISION, image_token_id=60, scale_factor=2
        )
    ),
    "qwen2-audio": lambda: tf.Qwen2AudioForConditionalGeneration(
        tf.Qwen2AudioConfig(
            text_config=SIZES | {"model_type": "qwen2", "num_key_value_heads": 2},
            audio_config={
                "d_model": 16,
                "encoder_layers": 1,
                "encoder_attention_heads": 2,
                "encoder_ffn_dim": 32,
                "num_mel_bins": 8,
                "max_source_positions": 20,
            },
            audio_token_index=60,
        )
    ),
}


@pytest.mark.parametrize("family", MULTIMODAL)
@pytest.mark.parametrize("wanted", [None, "all-linear", ["q_proj", "v_proj"]])
def test_towers_for_other_inputs_are_no_targets(family, wanted, caplog):
    model = MULTIMODAL[family]()
    towers = other_towers(model)
    assert towers
    with caplog.at_level(logging.WARNING, logger="rankselect"):
        targets = find_targets(model, wanted)
    assert not [target.name for target in targets if target.name.startswith(towers)]
    assert len(targets) >= 4
    if wanted == ["q_proj", "v_proj"]:
        assert f"modules of {', '.join(towers)}" in caplog.text
    by_expression = find_targets(model, rf"{towers[0]}.*\.q_proj")
    assert all(target.name.startswith(towers) for target in by_expression)


@pytest.mark.parametrize(
    "make", [tiny_model, lambda: tf.T5ForConditionalGeneration(tf.T5Config(vocab_size=64, d_model=16))]
)
def test_models_of_text_have_no_other_towers(make):
    assert other_towers(make()) == ()


@pytest.mark.filterwarnings("ignore:The order of the layers:rankselect.RankSelectWarning")
def test_a_multimodal_model_trains_on_texts_with_ranks_per_layer(tmp_path):
    model, tokenizer = MULTIMODAL["llava"](), tiny_tokenizer()
    words = [text.split() for text in tiny_texts(40)]
    rows = [rs.QuestionAnswer(" ".join(each[:3]), " ".join(each[3:]) or "fever") for each in words]
    arguments = tf.TrainingArguments(tmp_path, max_steps=6, report_to="none", disable_tqdm=True, use_cpu=True)
    trainer = rs.RankSelectTrainer(
        model, arguments, strategy="per-layer-id", train_dataset=rows, processing_class=tokenizer
    )
    trainer.train()
    updated = [bool(each.any()) for name, each in trainer.model.named_parameters() if "lora_B" in name]
    assert updated == [True] * len(trainer.plan.ranks)
