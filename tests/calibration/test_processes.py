"""A profile on several processes is that on one; what fails on one of them fails on all, and none waits."""

from __future__ import annotations

import numpy as np
import pytest
from transformers import T5Config, T5ForConditionalGeneration

import rankselect as rs
from launcher import launch
from rankselect.calibration.batches import encode, padded_batches
from rankselect.models.processes import Processes
from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::rankselect.errors.RankSelectWarning")

# Settings of `id_profile`, and the number of texts. The last has one batch, so that the second process has none.
CASES = {
    "all texts": ({}, 83),
    "in stages": ({"tolerance": 1e-6}, 500),
    "stopped early": ({"tolerance": 8.0}, 900),
    "last token": ({"pooling": "last", "estimator": rs.MLE(5), "max_samples": 60}, 83),
    "one batch": ({"batch_size": 100}, 83),
}


def small_t5():
    import torch

    torch.manual_seed(0)
    return T5ForConditionalGeneration(
        T5Config(vocab_size=32, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0)
    )


def profiles():
    """Every case's profile, as plain numbers."""
    found = {
        name: rs.id_profile(tiny_model(), tiny_tokenizer(), tiny_texts(n), progress=False, **settings)
        for name, (settings, n) in CASES.items()
    }
    found["two stacks"] = rs.id_profile(small_t5(), tiny_tokenizer(), tiny_texts(83), progress=False)
    return {
        name: {
            "layers": list(profile.layers),
            "values": profile.values.tolist(),
            "stderr": profile.stderr.tolist(),
            "input_values": dict(profile.input_values),
            "n_texts": profile.measurement.n_texts,
            "texts_digest": profile.measurement.texts_digest,
            "order_agreement": profile.measurement.order_agreement,
        }
        for name, profile in found.items()
    }


SCRIPT = """
import contextlib, io, warnings
import numpy as np
import torch
from tqdm.auto import tqdm
import rankselect as rs
from rankselect.calibration.batches import encode
from rankselect.calibration.hidden_states import HiddenStates
from rankselect.models.processes import Processes
from calibration import test_processes as here
from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

model, tokenizer, texts = tiny_model(), tiny_tokenizer(), tiny_texts(83)

def failing(**changes):
    try:
        rs.id_profile(**{"model": model, "tokenizer": tokenizer, "texts": texts, "progress": False, **changes})
    except Exception as error:
        return f"{type(error).__name__}: {error}"

err = io.StringIO()
with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stderr(err):
    warnings.simplefilter("always")
    rs.id_profile(model, tokenizer, texts)
told["bar"] = err.getvalue()
told["warnings"] = sum(issubclass(each.category, rs.RankSelectWarning) for each in caught)
told["profiles"] = here.profiles()

told["other texts"] = failing(texts=texts[rank:])
told["other seed"] = failing(seed=rank)
told["an empty text"] = failing(texts=[*texts, " "] if rank else texts)
half = tiny_model()
if rank == 1:
    half.model.layers[1].register_forward_pre_hook(lambda *_: 1 / 0)
told["forward pass"] = failing(model=half)
flat = tiny_model()
with torch.no_grad():
    flat.model.embed_tokens.weight.zero_()
told["no dimension"] = failing(model=flat)
random = tiny_model()
with torch.no_grad():
    random.model.embed_tokens.weight += rank
told["other weights"] = failing(model=random)

samples = encode(tokenizer, texts, 128, None, 0)
states = HiddenStates(model, samples, tokenizer, pooling=("mean",), batch_size=8, processes=Processes.current())
states.read(np.arange(len(samples)), tqdm(disable=True))
told["holds"] = {"layers": list(states.layers), "stack_inputs": list(states.stack_inputs)}

from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
spread = tiny_model()
weight = spread.lm_head.weight
parts = distribute_tensor(weight.detach(), init_device_mesh("cpu", (2,)), [Shard(0)])
spread.lm_head.weight = torch.nn.Parameter(parts)
told["spread"] = rs.id_profile(spread, tokenizer, texts, progress=False).values.tolist()
told["again"] = failing()
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What two processes found."""
    told, done = launch(tmp_path_factory.mktemp("processes"), SCRIPT)
    assert done.returncode == 0, done.stderr[-4000:]
    return told


@pytest.fixture(scope="module")
def alone():
    """What one process finds."""
    return profiles()


@pytest.mark.parametrize("case", [*CASES, "two stacks"])
def test_two_processes_measure_the_profile_of_one(told, alone, case):
    first, second = (each["profiles"][case] for each in told)
    assert first == second  # to the last bit
    expected = alone[case]
    for name in ("layers", "n_texts", "texts_digest"):
        assert first[name] == expected[name]
    for name in ("values", "stderr", "order_agreement"):
        np.testing.assert_allclose(first[name], expected[name], rtol=1e-6)
    assert first["input_values"] == pytest.approx(expected["input_values"], rel=1e-6)


def test_only_the_first_process_shows_a_bar_and_warns(told):
    assert "83/83" in told[0]["bar"]
    assert told[1]["bar"] == ""
    assert (told[0]["warnings"], told[1]["warnings"]) == (1, 0)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("other texts", "ArgumentError: expected the same number of distinct texts on every process, got 83 on proc"),
        (
            "other seed",
            "ArgumentError: expected the same seed on every process, got 0 on process 0 and 1 on process 1.",
        ),
        ("an empty text", "TextsError: expected texts that are not empty, got 1 empty, the first at index 83."),
        ("no dimension", "PointsError: "),
        ("other weights", "ArgumentError: expected the same weights (the first few) on every process"),
    ],
)
def test_an_error_is_raised_on_both_processes(told, what, message):
    assert [each[what][: len(message)] for each in told] == [message, message]


def test_an_error_of_another_library_is_named_to_the_other_process(told):
    other, own = (each["forward pass"] for each in told)
    assert own == "ZeroDivisionError: division by zero"
    assert other == (
        "RankSelectError: expected every process to do its share, got ZeroDivisionError on process 1 (division by "
        "zero). That process shows where it was raised."
    )


def test_after_errors_the_processes_are_still_in_step(told):
    assert [each["again"] for each in told] == [None, None]


def test_where_weights_are_spread_over_the_processes_each_reads_everything(told, alone):
    for each in told:
        np.testing.assert_allclose(each["spread"], alone["all texts"]["values"], rtol=1e-6)


def test_each_process_holds_the_states_of_its_own_layers(told):
    assert [each["holds"] for each in told] == [
        {"layers": ["model.layers.0"], "stack_inputs": ["model.layers.0"]},
        {"layers": ["model.layers.1"], "stack_inputs": []},
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_the_shares_are_the_batches_of_one_process(tiny, count):
    samples = encode(tiny[1], tiny[2], 128, None, 0)
    rows = np.arange(len(samples))
    whole = [batch.tolist() for batch, _ in padded_batches(samples, rows, 12, 0)]
    shares = [
        [batch.tolist() for batch, _ in padded_batches(samples, rows, 12, 0, share=(rank, count))]
        for rank in range(count)
    ]
    assert [shares[index % count][index // count] for index in range(len(whole))] == whole
    assert sum(len(share) for share in shares) == len(whole)


def test_one_process_is_left_alone(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")  # of a cluster's job, not of a launcher: there is no rank
    monkeypatch.delenv("RANK", raising=False)
    processes = Processes.current()
    assert processes == Processes(0, 1)
    assert processes.device_map("auto") == "auto"
    with pytest.raises(ZeroDivisionError):
        processes.together(lambda: 1 / 0)
    value = object()
    assert processes.from_first(value) is value
