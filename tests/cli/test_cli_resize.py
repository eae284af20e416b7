"""`rankselect resize`: from the table of singular values to a resized adapter with its loss."""

from __future__ import annotations

import json

import pytest

import rankselect as rs
from adapter_folders import saved
from rankselect.testing import tiny_texts, tiny_tokenizer


@pytest.fixture(scope="module")
def adapter(model, tmp_path_factory):
    folder = saved(tmp_path_factory.mktemp("resize") / "adapter")
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": str(model)}))
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = [json.dumps({"q": f"why {index}", "a": text}) for index, text in enumerate(tiny_texts(14))]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_without_out_it_shows_what_could_be_kept(run, adapter, tmp_path):
    result = run("resize", adapter, "--plot", tmp_path / "spectra.png")
    assert result.exit_code == 0, result.output
    assert str(rs.adapter_spectra(adapter)) in result.stdout
    assert (tmp_path / "spectra.png").read_bytes().startswith(b"\x89PNG")


def test_the_singular_values_as_json(run, adapter):
    result = run("resize", adapter, "--json")
    assert result.exit_code == 0, result.output
    found, expected = json.loads(result.stdout), rs.adapter_spectra(adapter)
    assert found["rank_at_energy"]["0.9"] == expected.rank_at_energy(0.9)
    for name, module in found["modules"].items():
        assert module["singular_values"] == expected.values[name].tolist()
        assert (module["d_in"], module["d_out"]) == expected.sizes[name]
    assert str(expected) in result.stderr


def test_a_budget_without_the_base(run, adapter, tmp_path):
    result = run("resize", adapter, "--out", tmp_path / "out", "--budget", "50%", "--json")
    assert result.exit_code == 0, result.output
    expected = rs.resize_adapter(adapter, tmp_path / "python", budget="50%")
    assert json.loads(result.stdout)["ranks"] == expected.ranks
    assert (tmp_path / "out" / "adapter_model.safetensors").read_bytes() == (
        tmp_path / "python" / "adapter_model.safetensors"
    ).read_bytes()
    assert "resized" in result.stderr


def test_losses_on_rows_and_recovery(run, adapter, rows, tmp_path):
    data = ("--data", rows, "--question", "q", "--answer", "a", "--template", "Q {question} A {answer}")
    result = run(
        "resize", adapter, "--out", tmp_path / "out", "--rank", 1, *data, "--recover-steps", 2, "--weigh-inputs"
    )
    assert result.exit_code == 0, result.output
    for word in ("loss before:", "loss after:", "loss recovered:", "95% interval", "7 rows"):
        assert word in result.stdout
    found = json.loads((tmp_path / "out" / "resize.json").read_text())
    read = rs.load_rows(rows, question="q", answer="a")
    expected = rs.resize_adapter(
        adapter,
        tmp_path / "python",
        rank=1,
        rows=read,
        template=rs.PromptTemplate("Q {question} A {answer}"),
        tokenizer=tiny_tokenizer(),
        recover_steps=2,
        weigh_inputs=True,
        progress=False,
    )
    assert found["loss_recovered"]["loss"] == pytest.approx(expected.loss_recovered.loss, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rank", 2), "expected --out, a folder for the resized adapter, got --rank without it"),
        (("--out", "{new}"), "expected one of rank, budget, energy and tolerance, got none"),
        (("--out", "{new}", "--tolerance", "1%"), "expected rows, for tolerance, got none"),
        (
            ("--out", "{new}", "--rank", 2, "--recover-steps", 3),
            "expected --data, the rows to measure on, got --recover-steps",
        ),
        (("--out", "{new}", "--rank", 2, "--data", "nowhere.jsonl"), "nowhere.jsonl"),
        (("--out", "{old}", "--rank", 2), "which exists"),
        (("--plot", "spectra.xyz"), "a plot file that matplotlib can write"),
    ],
)
def test_what_cannot_be(run, adapter, tmp_path, arguments, message):
    filled = [str(each).format(new=tmp_path / "new", old=adapter) for each in arguments]
    result = run("resize", adapter, *filled)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "new").exists()
