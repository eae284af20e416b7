"""Nearest neighbours against brute force, for every kind of points that rounding could get wrong."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import rankselect.neighbors.bounds
import rankselect.neighbors.nearest
import rankselect.neighbors.points
from rankselect.errors import ArgumentError, PointsError
from rankselect.neighbors.bounds import Frame, Sketch, screening_dtype
from rankselect.neighbors.nearest import nearest_neighbors
from rankselect.neighbors.points import DistinctPoints

KINDS = {
    "gauss": lambda rng, n, d: rng.normal(size=(n, d)),
    "offset": lambda rng, n, d: rng.normal(size=(n, d)) + 1e6,
    "low rank": lambda rng, n, d: rng.normal(size=(n, 2)) @ rng.normal(size=(2, d)) + 5.0,
    "clusters": lambda rng, n, d: rng.normal(size=(4, d))[rng.integers(4, size=n)] + 1e-5 * rng.normal(size=(n, d)),
    "tight clusters": lambda rng, n, d: (
        rng.normal(size=(4, d))[rng.integers(4, size=n)] + 1e-9 * rng.normal(size=(n, d))
    ),
    "two heaps": lambda rng, n, d: rng.choice([-1.0, 1.0], size=(n, 1)) + 0.05 * rng.normal(size=(n, d)),
    "outliers": lambda rng, n, d: rng.normal(size=(n, d)) * np.where(rng.random((n, 1)) < 0.1, 1000.0, 1.0),
    "one huge outlier": lambda rng, n, d: rng.normal(size=(n, d)) * np.where(np.arange(n) == 1, 1e12, 1.0)[:, None],
    "lattice": lambda rng, n, d: rng.integers(0, 3, size=(n, d)).astype(float),
    "repeated": lambda rng, n, d: rng.normal(size=(n, d))[rng.integers(max(n // 2, 1), size=n)],
    "sparse": lambda rng, n, d: rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.05),
    "tiny": lambda rng, n, d: 1e-20 * rng.normal(size=(n, d)),
    "large": lambda rng, n, d: 1e25 * rng.normal(size=(n, d)),
    "beyond float32's squares": lambda rng, n, d: 1e30 * rng.normal(size=(n, d)),
    "float32's edge": lambda rng, n, d: 3e38 * rng.uniform(-1, 1, size=(n, d)),
    "subnormal": lambda rng, n, d: 1e-40 * rng.normal(size=(n, d)),
    "all magnitudes": lambda rng, n, d: rng.normal(size=(n, d)) * 10.0 ** rng.integers(-30, 30, size=(n, 1)),
}
NUMPY_TYPES = (np.float32, np.float64)


def brute_force(points):
    """Distances by differences in float64, scaled so that no square over- or underflows; duplicates dropped."""
    rows = np.asarray(points, dtype=np.float64)
    first = np.sort(np.unique(rows + 0.0, axis=0, return_index=True)[1])
    rows = rows[first]
    difference = np.abs(rows[:, None] - rows[None])
    peak = np.maximum(difference.max(axis=2), 5e-324)
    distance = np.sqrt(((difference / peak[..., None]) ** 2).sum(axis=2)) * peak
    np.fill_diagonal(distance, np.inf)
    return first, distance


def assert_correct(points, found, k):
    kept, distance = brute_force(points)
    np.testing.assert_array_equal(found.kept, kept)
    assert found.distances.shape == found.indices.shape == (len(kept), k)
    assert found.distances.dtype == np.float64
    assert found.indices.dtype == np.int64
    np.testing.assert_allclose(found.distances, np.sort(distance, axis=1)[:, :k], rtol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(distance, found.indices, axis=1), found.distances, rtol=1e-6)
    assert (np.diff(found.distances, axis=1) >= 0).all()
    assert all(len(set(row)) == k for row in found.indices.tolist())


@pytest.fixture
def screen_in(monkeypatch):
    return lambda dtype: monkeypatch.setattr(rankselect.neighbors.nearest, "screening_dtype", lambda _: dtype)


@pytest.fixture(params=["kept", "rounded when needed"])
def small_tiles(request, monkeypatch):
    """Several tiles of columns for points as few as a test's, with and without a rounded copy."""
    monkeypatch.setattr(rankselect.neighbors.bounds, "_TILE_COLUMNS", 7)
    monkeypatch.setattr(rankselect.neighbors.bounds, "_rounded_columns", lambda width: 7)
    monkeypatch.setattr(rankselect.neighbors.bounds, "_KEPT_BYTES", 1 << 26 if request.param == "kept" else 0)


@pytest.mark.parametrize("screen", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("small_tiles")
def test_every_kind_of_points_is_searched_exactly_tile_by_tile(kind, screen, screen_in):
    screen_in(screen)
    points = KINDS[kind](np.random.default_rng(4), 60, 24)
    assert_correct(points, nearest_neighbors(points, 9, block_size=25), 9)


@pytest.mark.parametrize("screen", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", NUMPY_TYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_points_is_searched_exactly(kind, dtype, screen, screen_in):
    screen_in(screen)
    points = KINDS[kind](np.random.default_rng(3), 120, 24).astype(dtype)
    before = points.copy()
    assert_correct(points, nearest_neighbors(points, 3, block_size=50), 3)
    np.testing.assert_array_equal(points, before)


@given(
    kind=st.sampled_from(sorted(KINDS)),
    dtype=st.sampled_from(NUMPY_TYPES),
    n=st.integers(2, 90),
    d=st.integers(1, 40),
    k=st.integers(1, 20),
    block_size=st.integers(1, 100),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=150)
def test_any_size_and_block_size(*, kind, dtype, n, d, k, block_size, seed):
    points = KINDS[kind](np.random.default_rng(seed), n, d).astype(dtype)
    distinct = len(brute_force(points)[0])
    if distinct <= k:
        with pytest.raises(PointsError, match=f"expected at least {k + 1} distinct points, got {n} points"):
            nearest_neighbors(points, k, block_size=block_size)
    else:
        found = nearest_neighbors(points, k, block_size=block_size)
        assert_correct(points, found, k)
        assert (found.n_points, found.n_duplicates) == (distinct, n - distinct)


@given(
    kind=st.sampled_from(sorted(KINDS)),
    screen=st.sampled_from([torch.bfloat16, torch.float32, torch.float64]),
    dtype=st.sampled_from(NUMPY_TYPES),
    n=st.integers(3, 40),
    d=st.integers(1, 3) | st.integers(1, 70),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=150)
def test_bounds_hold_for_every_pair(*, kind, screen, dtype, n, d, seed):
    points = KINDS[kind](np.random.default_rng(seed), n, d).astype(dtype)
    kept, distance = brute_force(points)
    frame = Frame.of(DistinctPoints.of(points))
    distance = distance * frame.scale
    sketch, rows = Sketch.of(frame, screen), torch.arange(len(kept))
    squared = torch.cat([tile for _, tile in sketch.tiles(rows)], dim=1)
    lower, upper = (bound.numpy() for bound in sketch.bounds(squared, rows, rows))
    others = ~np.eye(len(kept), dtype=bool)
    assert (lower <= distance)[others].all()
    assert (upper >= distance)[others].all()
    for j in range(len(kept)):  # take every point in turn as the last candidate
        outside = (squared.double() >= squared[:, [j]].double()).numpy() & others
        elsewhere = sketch.bound_elsewhere(squared[:, j], rows).numpy()
        assert (distance >= elsewhere[:, None])[outside & (rows.numpy() != j)[:, None]].all()


@pytest.mark.parametrize("scale", [1e200, 1e-200])
@pytest.mark.parametrize("screen", [torch.bfloat16, torch.float64])
def test_values_whose_squares_float64_cannot_hold(scale, screen, screen_in):
    screen_in(screen)
    points = scale * np.random.default_rng(0).normal(size=(60, 7))
    assert_correct(points, nearest_neighbors(points, 4), 4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_torch_types(dtype):
    points = torch.randn(60, 33, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert_correct(points.double().numpy(), nearest_neighbors(points.requires_grad_(), 4), 4)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.uint16, np.int64, np.float16, np.longdouble, ">f4"])
def test_numpy_types(dtype):
    points = np.random.default_rng(0).integers(0, 100, size=(50, 6)).astype(dtype)
    assert_correct(points, nearest_neighbors(points, 4), 4)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[::2],
        lambda x: x[:, ::3],
        lambda x: x[::-1],
        np.asfortranarray,
        lambda x: x.tolist(),
        lambda x: torch.from_numpy(x).T[:30],
    ],
)
def test_layouts(view):
    points = view(np.random.default_rng(0).normal(size=(60, 36)))
    assert_correct(np.asarray(points), nearest_neighbors(points, 4), 4)


@pytest.mark.filterwarnings("error")
def test_read_only_arrays():
    points = np.random.default_rng(0).normal(size=(30, 5))
    points.flags.writeable = False
    assert_correct(points, nearest_neighbors(points, 2), 2)


def test_equal_distances_come_in_the_order_of_the_points():
    line = np.arange(40.0)[:, None] * np.ones((1, 3))
    points = np.vstack([line, line + np.array([0, 0, 0.5])])
    found = nearest_neighbors(points, 6)
    _, distance = brute_force(points)
    np.testing.assert_array_equal(found.indices, np.argsort(distance, axis=1, kind="stable")[:, :6])


def test_minus_zero_is_zero():
    found = nearest_neighbors(np.array([[0.0, 1.0], [-0.0, 1.0], [2.0, 0.0], [2.0, -0.0], [5.0, 5.0]]), 1)
    np.testing.assert_array_equal(found.kept, [0, 2, 4])
    np.testing.assert_array_equal(found.point_of_row, [0, 0, 1, 1, 2])
    assert found.n_duplicates == 2


def test_rows_with_equal_hashes_are_compared(monkeypatch):
    monkeypatch.setattr(
        rankselect.neighbors.points, "_row_hashes", lambda values: np.zeros(len(values), dtype=np.int64)
    )
    points = np.array([[1.0], [2.0], [1.0], [4.0], [2.0], [1.0], [8.0]])
    found = nearest_neighbors(points, 2)
    np.testing.assert_array_equal(found.kept, [0, 1, 3, 6])
    np.testing.assert_array_equal(found.point_of_row, [0, 1, 0, 2, 1, 0, 3])


def test_hashes_of_short_numbers_in_a_long_format_differ():
    points = torch.from_numpy(np.random.default_rng(0).normal(size=(5000, 4))).bfloat16().double()
    assert len(np.unique(rankselect.neighbors.points._row_hashes(points))) == len(torch.unique(points, dim=0))


def test_tight_clusters_need_the_second_search(monkeypatch, screen_in):
    """bfloat16 cannot tell the members of a cluster apart: the search must notice that, and answer all the same."""
    settled = []
    original = rankselect.neighbors.nearest._Search._search_exactly
    monkeypatch.setattr(
        rankselect.neighbors.nearest._Search,
        "_search_exactly",
        lambda self, sketch, rows: settled.extend(rows.tolist()) or original(self, sketch, rows),
    )
    screen_in(torch.bfloat16)
    points = KINDS["clusters"](np.random.default_rng(0), 200, 16)
    assert_correct(points, nearest_neighbors(points, 2), 2)
    assert sorted(settled) == list(range(200))


def test_easy_points_do_not_need_the_second_search(monkeypatch, screen_in):
    monkeypatch.delattr(rankselect.neighbors.nearest._Search, "_search_exactly")
    screen_in(torch.bfloat16)
    points = np.random.default_rng(0).normal(size=(500, 5))
    assert_correct(points, nearest_neighbors(points, 2), 2)


def test_reduced_float32_products_are_not_trusted(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    assert screening_dtype(torch.device("cpu")) == torch.float32
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    assert screening_dtype(torch.device("cpu")) == torch.float64
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    assert screening_dtype(torch.device("cpu")) == torch.bfloat16


class LargestTensors(TorchDispatchMode):
    """Notes the bytes of the largest new tensor of each type."""

    def __init__(self):
        super().__init__()
        self.largest = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor) and not func.is_view:
                self.largest[tensor.dtype] = max(self.largest.get(tensor.dtype, 0), tensor.nbytes)
        return result


@pytest.mark.parametrize("screen", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("repeats", [0, 5])
def test_memory_beyond_the_input_is_a_bfloat16_copy_and_some_blocks(screen, repeats, screen_in):
    screen_in(screen)
    n, d, block = 6000, 400, 64
    points = torch.randn(n, 8, generator=torch.Generator().manual_seed(0)) @ torch.randn(8, d)
    points[:repeats] = points[repeats : 2 * repeats]
    with LargestTensors() as mode:
        nearest_neighbors(points, 2, block_size=block)
    assert mode.largest.pop(torch.bfloat16, 0) < 1.1 * points.nbytes / 2
    assert max(mode.largest.values()) < points.nbytes / 2
    assert max(mode.largest.values()) < n * n / 4


@pytest.mark.parametrize("screen", [torch.bfloat16, torch.float32, torch.float64])
def test_tensors_of_pairs_do_not_grow_with_the_points(screen, screen_in, monkeypatch):
    screen_in(screen)
    monkeypatch.setattr(rankselect.neighbors.bounds, "_TILE_COLUMNS", 256)
    monkeypatch.setattr(rankselect.neighbors.bounds, "_ROUNDED", 1 << 14)
    monkeypatch.setattr(rankselect.neighbors.bounds, "_KEPT_BYTES", 0)
    monkeypatch.setattr(rankselect.neighbors.points, "_CHUNK", 1 << 12)
    largest = {}
    for n in (1500, 6000):
        points = np.random.default_rng(0).normal(size=(n, 8)).astype(np.float32)
        with LargestTensors() as mode:
            nearest_neighbors(points, 2, block_size=64)
        largest[n] = max(mode.largest.values())
    assert largest[6000] - largest[1500] <= 16 * (6000 - 1500)  # some bytes for each point
    assert largest[6000] < 6000 * 64 * 4  # a block of rows against all points would be more


@given(st.integers(3, 60), st.integers(1, 5), st.booleans(), st.integers(0, 2**32))
@settings(max_examples=100)
def test_subset_is_what_searching_the_subset_finds(n, k, repeat, seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, 3))
    if repeat:
        points = points[rng.integers(n, size=n)]
    mask = rng.random(n) < 0.5
    everything = nearest_neighbors(points, 1, extra=n) if len(np.unique(points, axis=0)) > 1 else None
    if len(np.unique(points[mask], axis=0)) > k:
        expected = nearest_neighbors(points[mask], k).distances
        found = everything.subset(mask, k)
        np.testing.assert_array_equal(np.sort(found, axis=0), np.sort(expected, axis=0))
        if not repeat:
            np.testing.assert_array_equal(found, expected)
    elif everything is not None:
        assert everything.subset(mask, k).shape == (0, k)


def test_subset_leaves_out_points_whose_lists_are_too_short():
    found = nearest_neighbors(np.array([[0.0], [1.0], [3.0], [7.0]]), 2)
    np.testing.assert_array_equal(found.subset(np.array([True, False, False, True]), 1), np.empty((0, 1)))
    np.testing.assert_array_equal(found.subset(np.array([True, True, True, False]), 2), [[1, 3], [1, 2], [2, 3]])


def test_extra_is_limited_by_the_points():
    assert nearest_neighbors(np.eye(5), 2, extra=100).distances.shape == (5, 4)
    assert nearest_neighbors(np.eye(5), 2, extra=1).distances.shape == (5, 3)


BAD = {
    "one dimension": (np.zeros(3), "expected points of shape (n, d): one row per point, got shape (3,)."),
    "three dimensions": (torch.zeros(3, 2, 2), "got shape (3, 2, 2). Give a two-dimensional array."),
    "ragged": ([[1.0], [1.0, 2.0]], "Give rows of equal length."),
    "text": ([["a"], ["b"]], "expected points that are real numbers, got an array of <U1."),
    "objects": (np.array([[object()]]), "got an array of object."),
    "booleans": (np.zeros((3, 2), dtype=bool), "got an array of bool."),
    "complex": (torch.zeros(3, 2, dtype=torch.complex64), "got a strided tensor of complex64."),
    "sparse": (torch.eye(3).to_sparse(), "got a sparse_coo tensor of float32."),
    "NaN": (
        [[0.0], [np.nan], [1.0], [np.nan]],
        "expected points with finite values, got NaN, infinite or larger than 1e+300 in 2 of 4 rows, first in row 1.",
    ),
    "infinite": (torch.tensor([[0.0], [1.0], [-torch.inf]]), "in 1 of 3 rows, first in row 2."),
    "beyond float64's distances": ([[0.0], [1e301], [1.0]], "in 1 of 3 rows, first in row 1."),
    "too few": ([[0.0], [1.0], [1.0]], "expected at least 3 distinct points, got 3 points, 1 of them duplicates."),
    "equal": (np.ones((5, 2)), "got 5 points, and all points are equal."),
    "none": (np.empty((0, 2)), "got 0 points, 0 of them duplicates."),
    "no columns": (np.empty((3, 0)), "got 3 points, and all points are equal."),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_points(case):
    points, message = BAD[case]
    with pytest.raises(PointsError, match=re.escape(message)):
        nearest_neighbors(points, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "expected k of at least 1, got 0. Give a larger k."),
        ({"k": 1, "extra": -1}, "expected extra of at least 0, got -1."),
        ({"k": 1, "block_size": 0}, "expected block_size of at least 1, got 0."),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        nearest_neighbors(np.eye(4), **arguments)
