"""Hidden states where tokens, patches and two stacks meet: what may be padded, and whose mask is whose."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers as tf
from tqdm.auto import tqdm

import rankselect as rs
from architectures import FAMILIES, inputs_for
from rankselect.calibration.batches import encode
from rankselect.calibration.hidden_states import HiddenStates

SEQ2SEQ = {"vocab_size": 61, "d_model": 32, "encoder_attention_heads": 4, "decoder_attention_heads": 4}


def streamed(model, inputs, batch_size):
    samples = encode(None, inputs, 64, None, 0)
    states = HiddenStates(model, samples, None, pooling=("mean",), batch_size=batch_size)
    states.read(np.arange(len(samples)), tqdm(disable=True))
    return states


def text(length, seed=0):
    return {"input_ids": torch.tensor(np.random.default_rng(seed).integers(3, 61, size=length))}


def test_patches_that_are_by_chance_as_many_as_the_longest_text_are_not_masked_like_it():
    model = FAMILIES["clip"]()
    image = inputs_for("clip", 2)
    mixed = [{**image[0], **text(3)}, {**image[1], **text(5)}]  # an image has 4 patches and a class token
    with pytest.raises(rs.errors.ModelError, match=r"one hidden state for each token, got .*Use batch_size=1"):
        streamed(model, mixed, batch_size=2)
    alone = streamed(model, mixed, batch_size=1)
    equally_long = streamed(model, [{**image[0], **text(5, 1)}, {**image[1], **text(5)}], batch_size=2)
    vision = "vision_model.encoder.layers.1"
    torch.testing.assert_close(alone.layers[vision], equally_long.layers[vision], rtol=1e-4, atol=1e-5)


def test_a_stack_that_the_inputs_do_not_reach_has_no_states():
    vision = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
    words = {**vision, "vocab_size": 61, "num_key_value_heads": 2}
    config = tf.LlavaConfig(
        vision_config=tf.CLIPVisionConfig(**vision, image_size=8, patch_size=4), text_config=tf.LlamaConfig(**words)
    )
    model = tf.AutoModelForImageTextToText.from_config(config)
    assert rs.layer_names(model) == ("model.vision_tower.encoder.layers.0", "model.language_model.layers.0")
    assert list(streamed(model, [text(4), text(7)], 2).layers) == ["model.language_model.layers.0"]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_tokens_that_are_padded_inside_the_model_are_refused(batch_size):
    config = tf.LongformerConfig(
        vocab_size=61,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        attention_window=4,
        pad_token_id=0,
    )
    with pytest.raises(
        rs.errors.ModelError, match=r"got \(\d, \d+\) from encoder.layer.0 .* use IDProfile.from_values"
    ):
        streamed(tf.AutoModel.from_config(config), [text(5), text(6), text(7)], batch_size)


def test_states_with_another_order_of_dimensions_are_refused():
    config = tf.XLNetConfig(vocab_size=61, d_model=32, n_layer=1, n_head=4, d_inner=48)
    with pytest.raises(rs.errors.ModelError, match=r"shape \(batch, length, width\), got \(7, 2, 32\) from layer.0"):
        streamed(tf.AutoModel.from_config(config), [text(5), text(7)], 2)


def test_the_decoder_has_a_mask_of_its_own():
    model = FAMILIES["t5"]()
    pairs = [(3, 8), (8, 4), (6, 8)]  # both stacks are padded to 8, each in its own way
    inputs = [
        {
            **text(length, seed=length),
            "decoder_input_ids": text(reply, seed=reply)["input_ids"],
            "decoder_attention_mask": torch.ones(reply, dtype=torch.long),
        }
        for length, reply in pairs
    ]
    alone, together = streamed(model, inputs, 1), streamed(model, inputs, 3)
    for layer in rs.layer_names(model):
        torch.testing.assert_close(together.layers[layer], alone.layers[layer], rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        output = model(
            **{name: tensor[None] for name, tensor in inputs[1].items()}, output_hidden_states=True, return_dict=True
        )
    for kind, stack in ((output.encoder_hidden_states, "encoder"), (output.decoder_hidden_states, "decoder")):
        entering, first = kind[0][0].mean(0), kind[1][0].mean(0)
        torch.testing.assert_close(together.stack_inputs[f"{stack}.block.0"][1], entering, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together.layers[f"{stack}.block.0"][1], first, rtol=1e-4, atol=1e-5)


def test_the_decoder_is_given_a_mask_where_there_is_none():
    model = FAMILIES["whisper"]()
    replies = [text(length, length)["input_ids"] for length in (4, 9, 6)]
    inputs = [{**item, "decoder_input_ids": ids} for item, ids in zip(inputs_for("whisper", 3), replies, strict=True)]
    alone, together = streamed(model, inputs, 1), streamed(model, inputs, 3)
    for layer in rs.layer_names(model):
        torch.testing.assert_close(together.layers[layer], alone.layers[layer], rtol=1e-4, atol=1e-5)


def test_sounds_of_different_lengths_are_refused():
    with pytest.raises(
        rs.errors.TextsError, match=r"inputs 'input_values' of one shape, got shapes \(300,\) and \(400,\)"
    ):
        streamed(FAMILIES["wav2vec2"](), [{"input_values": torch.randn(length)} for length in (400, 300)], 2)


def test_a_shared_layer_shows_what_enters_the_first_pass_and_leaves_the_last():
    model = FAMILIES["albert"]()
    sample = text(6)
    states = streamed(model, [sample, text(5)], 2)
    with torch.no_grad():
        hidden = model(input_ids=sample["input_ids"][None], output_hidden_states=True).hidden_states
    (layer,) = rs.layer_names(model)
    torch.testing.assert_close(states.stack_inputs[layer][0], hidden[0][0].mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(states.layers[layer][0], hidden[-1][0].mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["UMT5EncoderModel", "WhisperForAudioClassification"])
def test_an_encoder_taken_out_of_an_encoder_decoder_model_is_read_alone(kind):
    if kind == "UMT5EncoderModel":
        config = tf.UMT5Config(vocab_size=61, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
        inputs, layers = [text(4), text(7)], ("encoder.block.0", "encoder.block.1")
    else:
        config = tf.WhisperConfig(
            **SEQ2SEQ, num_mel_bins=8, encoder_layers=2, decoder_layers=2, max_source_positions=20, pad_token_id=0
        )
        inputs = [{"input_features": item["input_features"]} for item in inputs_for("whisper", 2)]
        layers = ("encoder.layers.0", "encoder.layers.1")
    assert config.is_encoder_decoder
    model = getattr(tf, kind)(config)
    assert tuple(streamed(model, inputs, 2).layers) == rs.layer_names(model) == layers


def test_audio_needs_no_tokens():
    model = FAMILIES["wav2vec2"]()
    assert streamed(model, inputs_for("wav2vec2", 3), 2).layers["encoder.layers.1"].shape == (3, 32)
