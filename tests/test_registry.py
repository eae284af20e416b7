"""Plug-ins by name: what a person may type, and what they are told otherwise."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

import rankselect as rs
from rankselect import registry
from rankselect.estimators._base import estimator
from rankselect.metrics._base import metric
from rankselect.registry import available, create
from rankselect.strategies._base import strategy
from rankselect.testing import check_estimator, check_metric, check_strategy


class Chatty:
    """A plug-in of a third party."""

    def __init__(self, words=("a",), *, loud=False):
        if words == "none":
            raise rs.errors.ArgumentError("words", "none", "Say something.")
        self.words, self.loud = words, loud


@pytest.fixture
def third_party(monkeypatch):
    points = [
        EntryPoint("chatty", f"{__name__}:Chatty", "rankselect.metrics"),
        EntryPoint("absent", "no_such_package:Thing", "rankselect.metrics"),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == "rankselect.metrics" else [])


def test_our_own_are_available_under_the_names_of_their_kind():
    assert list(available("strategy")) == sorted(available("strategy"))
    assert {"fixed", "per-layer-id"} <= available("strategy").keys()
    assert {"twonn", "mle", "gride", "skdim"} <= available("estimator").keys()
    assert available("nothing") == {}


@pytest.mark.parametrize(
    ("kind", "specification", "made"),
    [
        ("strategy", "per-layer-id", rs.PerLayerID()),
        ("strategy", "per-layer-id:", rs.PerLayerID()),
        ("strategy", "fixed:rank=16", rs.Fixed(16)),
        ("strategy", "fixed: rank = 16 ", rs.Fixed(16)),
        ("strategy", "fixed:16", rs.Fixed(16)),
        ("strategy", "fixed: 16 ", rs.Fixed(16)),
        ("estimator", "skdim:lPCA", rs.SkDim("lPCA")),
        ("estimator", "twonn:method=ml,discard_fraction=0.2", rs.TwoNN(discard_fraction=0.2, method="ml")),
    ],
)
def test_a_name_and_arguments_make_a_plug_in(kind, specification, made):
    assert create(kind, specification) == made


def test_two_packages_with_the_same_name_for_different_things_are_refused(monkeypatch):
    points = [EntryPoint("same", f"{where}:Thing", "rankselect.metrics") for where in ("one", "one", "two")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points[:2])
    assert list(available("metric")) == ["same"]  # one package, found twice
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    with pytest.raises(
        rs.errors.ArgumentError, match=r"one metric of the name same, got one:Thing and two:Thing\. Uninstall"
    ):
        available("metric")


def test_a_value_is_json_or_else_a_string(third_party):
    assert create("metric", "chatty:words=hello world,loud=true").words == "hello world"
    assert create("metric", "chatty:words=null,loud=true").loud is True
    assert create("metric", 'chatty:words="7"').words == "7"
    assert create("metric", "chatty:words=a=b").words == "a=b"


def test_a_plug_in_of_another_package_is_found_and_loaded_only_when_used(third_party):
    assert list(available("metric")) == ["absent", "chatty"]
    assert isinstance(create("metric", "chatty"), Chatty)
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        create("metric", "absent")


@pytest.mark.parametrize(
    ("name", "hint"), [("per-layer", "per-layer-id"), ("Fixed", "fixed"), ("GELORA", "gelora"), ("intrinsic", "intrin")]
)
def test_an_unknown_name_gets_near_matches(name, hint):
    with pytest.raises(
        rs.errors.UnknownNameError, match=f"the name of a strategy, got '{name}'. Did you mean .*{hint}"
    ):
        create("strategy", name)


def test_a_name_like_no_other_gets_the_whole_list(third_party):
    with pytest.raises(rs.errors.UnknownNameError) as caught:
        create("metric", "zzz")
    assert str(caught.value) == "expected the name of a metric, got 'zzz'. Known: absent, chatty."
    with pytest.raises(rs.errors.UnknownNameError, match=r"Known: none\."):
        create("strategy", "fixed")


@pytest.mark.parametrize("arguments", ["16,", "16,17", "=16", "rank=16,16", "16,rank=16", "ra nk=16", "1rank=16"])
def test_malformed_arguments(arguments):
    with pytest.raises(rs.errors.ArgumentError) as caught:
        create("strategy", f"fixed:{arguments}")
    assert str(caught.value) == (
        f"expected arguments as name=value,name=value, got {arguments!r}. For example fixed:rank=16."
    )


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ("fixed", "missing 1 required positional argument: 'rank'"),
        ("fixed:size=16", "unexpected keyword argument 'size'"),
        ("per-layer-id:rank=4", "per-layer-id takes, got 'rank=4'"),
        ("per-layer-id:4", "per-layer-id takes, got '4'. It takes 1 positional argument but 2 were given"),
    ],
)
def test_arguments_that_the_plug_in_does_not_take(specification, message):
    with pytest.raises(rs.errors.ArgumentError, match=message):
        create("strategy", specification)


def test_the_plug_ins_own_error_comes_through():
    with pytest.raises(rs.errors.ArgumentError, match="an integer rank of at least 1, got 0"):
        create("strategy", "fixed:rank=0")
    for typed in ("fixed:rank=many", "fixed:many"):
        with pytest.raises(rs.errors.ArgumentError, match="an integer rank of at least 1, got 'many'"):
            create("strategy", typed)


ROOMS = [(strategy, rs.Fixed(16), "fixed:16"), (estimator, rs.MLE(10), "mle:10"), (metric, rs.TokenF1(), "token-f1")]


@pytest.mark.parametrize(("resolve", "made", "name"), ROOMS)
def test_every_kind_is_taken_by_name_and_as_an_instance(resolve, made, name):
    assert resolve(name) == made
    assert resolve(made) is made


@pytest.mark.parametrize(("resolve", "made", "name"), ROOMS)
def test_a_class_or_a_plug_in_of_another_kind_is_refused(resolve, made, name):
    kind = resolve.__name__
    wanted = rf"an? {kind}, or the name of one, got"
    with pytest.raises(
        rs.errors.ArgumentError, match=rf"{wanted} the class {type(made).__name__}\. Create an instance"
    ):
        resolve(type(made))
    for _, other, _ in ROOMS:
        if type(other) is not type(made):
            with pytest.raises(rs.errors.ArgumentError, match=rf"{wanted} {type(other).__name__}\("):
                resolve(other)
    with pytest.raises(rs.errors.UnknownNameError, match=f"expected the name of an? {kind}, got 'nothing'"):
        resolve("nothing")
    with pytest.raises(rs.errors.ArgumentError, match=rf"got None\. Known names: .*{name.split(':')[0]}"):
        resolve(None)


@pytest.mark.parametrize(
    ("check", "name", "kind"),
    [
        (check_strategy, "fixed:2", rs.Fixed),
        (check_estimator, "twonn", rs.TwoNN),
        (check_metric, "token-f1", rs.TokenF1),
    ],
)
def test_the_checks_of_contracts_take_names_and_refuse_classes(check, name, kind):
    check(name)
    with pytest.raises(rs.errors.ArgumentError, match=rf"got the class {kind.__name__}\. Create an instance"):
        check(kind)
