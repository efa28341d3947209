"""Sums that merge: any cut into chunks gives the fit in memory, wherever the chunks are counted."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shape_models import ASM, ShapeStatistics


def test_statistics_refuse_numbers_that_are_none():
    """A fraction of a sample, NaN and infinity are refused at the door, not handed on to a model."""
    with pytest.raises(ValueError, match=r"n_samples: got 2\.5"):
        ShapeStatistics(2.5, np.zeros(2), np.eye(2))
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="got NaN or infinity in the mean"):
            ShapeStatistics(3, np.array([0.0, bad]), np.eye(2))
        with pytest.raises(ValueError, match="got NaN or infinity in the mean"):
            ShapeStatistics(3, np.zeros(2), np.diag([1.0, bad]))


@st.composite
def cut_sets(draw):
    """Shapes with a mean up to 1000 times the spread, and the places where they are cut into chunks."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, k, d = draw(st.integers(2, 60)), draw(st.integers(1, 5)), draw(st.integers(2, 3))
    spread = rng.normal(size=(n, k * d)) @ rng.normal(size=(k * d, k * d))
    far = draw(st.sampled_from([0.0, 1.0, 1000.0]))
    shapes = (spread + far * rng.normal(size=k * d)).reshape(n, k, d)
    cuts = sorted(draw(st.lists(st.integers(0, n), max_size=6)))
    return shapes, np.split(shapes, cuts)


def assert_same(one, other, rtol=1e-10):
    assert one.n_samples == other.n_samples
    size = np.sqrt(np.diag(other.scatter).max() / max(other.n_samples - 1, 1))
    np.testing.assert_allclose(one.mean, other.mean, rtol=rtol, atol=rtol * size)
    np.testing.assert_allclose(one.scatter, other.scatter, rtol=0, atol=rtol * np.abs(other.scatter).max())


def by_definition(shapes):
    flat = np.asarray(shapes, dtype=np.longdouble).reshape(len(shapes), -1)
    mean = flat.mean(axis=0)
    scatter = sum(np.outer(x - mean, x - mean) for x in flat)
    return ShapeStatistics(len(flat), mean.astype(float).reshape(shapes.shape[1:]), scatter.astype(float))


@given(cut_sets())
def test_any_cut_gives_the_sums_of_all(case):
    shapes, chunks = case
    assert_same(ShapeStatistics.from_chunks(chunks), by_definition(shapes))


@given(cut_sets())
def test_merging_is_commutative_and_associative(case):
    shapes, _ = case
    a, b, c = (ShapeStatistics.from_shapes(part) for part in np.array_split(shapes, 3))
    assert_same(a + b, b + a)
    assert_same((a + b) + c, a + (b + c))
    empty = ShapeStatistics.from_shapes(shapes[:0])
    assert (a + empty) is a
    assert (empty + a) is a


@given(cut_sets(), st.sampled_from([None, 1, 0.9]))
def test_a_fit_from_chunks_is_the_fit_in_memory(case, n_components):
    shapes, chunks = case
    flat = shapes.reshape(len(shapes), -1)
    if len(shapes) < 3 or np.ptp(flat, axis=0).max() < 1e-9 * np.abs(flat).max():
        return
    streamed, whole = ASM(n_components).fit_chunks(chunks), ASM(n_components).fit(shapes)
    if n_components is not None:
        assert streamed.n_components_ == whole.n_components_
    q = min(streamed.n_components_, whole.n_components_)
    scale = whole.explained_variance_[0]
    np.testing.assert_allclose(
        streamed.explained_variance_[:q], whole.explained_variance_[:q], rtol=0, atol=1e-10 * scale
    )
    np.testing.assert_allclose(streamed.mean_, whole.mean_, rtol=1e-12, atol=1e-10 * np.sqrt(scale))
    np.testing.assert_allclose(streamed.noise_variance_, whole.noise_variance_, rtol=0, atol=1e-10 * scale)
    assert streamed.event_shape_ == whole.event_shape_
    assert streamed.n_samples_ == len(shapes)


def test_projections_agree_when_the_mean_is_1000_times_the_spread(rng):
    modes = rng.normal(size=(10, 136)) * np.geomspace(1, 0.05, 10)[:, None]
    shapes = (rng.normal(size=(5000, 10)) @ modes + 0.01 * rng.normal(size=(5000, 136)) + 1000).reshape(5000, 68, 2)
    streamed, whole = ASM(10).fit_chunks(np.array_split(shapes, 7)), ASM(10).fit(shapes)
    np.testing.assert_allclose(streamed.explained_variance_, whole.explained_variance_, rtol=1e-10)
    np.testing.assert_allclose(streamed.noise_variance_, whole.noise_variance_, rtol=1e-10)
    wild = shapes[:50] + rng.normal(size=(50, 68, 2))
    np.testing.assert_allclose(streamed.project(wild), whole.project(wild), rtol=1e-10)


def test_memory_is_that_of_one_chunk():
    """Forty chunks take no more memory than two."""

    def peak(n_chunks):
        def chunks():
            for seed in range(n_chunks):
                yield np.random.default_rng(seed).normal(size=(2000, 20, 2))

        tracemalloc.start()
        assert ASM(3).fit_chunks(chunks).n_samples_ == 2000 * n_chunks
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    assert peak(40) < 1.1 * peak(2)


def _load(seed):
    return np.random.default_rng(seed).normal(size=(30, 4, 2)) + seed


def test_any_map_and_any_source(rng):
    expected = by_definition(np.concatenate([_load(seed) for seed in range(5)]))
    assert_same(ShapeStatistics.from_chunks(range(5), load=_load), expected)
    assert_same(ShapeStatistics.from_chunks([_load(seed) for seed in range(5)]), expected)
    assert_same(ShapeStatistics.from_chunks(lambda: (_load(seed) for seed in range(5))), expected)
    with ThreadPoolExecutor(2) as pool:
        threaded = ShapeStatistics.from_chunks(range(5), load=_load, map=pool.map)
    np.testing.assert_allclose(threaded.scatter, ShapeStatistics.from_chunks(range(5), load=_load).scatter, rtol=1e-12)


def test_one_shot_sources_are_refused(rng):
    shapes = rng.normal(size=(20, 4, 2))
    with pytest.raises(ValueError, match=r"one-shot generator.*expected something to go through more than once"):
        ASM().fit_chunks(part for part in np.array_split(shapes, 2))
    with pytest.raises(ValueError, match="one-shot list_iterator"):
        ShapeStatistics.from_chunks(iter([shapes]))
    with pytest.raises(ValueError, match="got one array of shape"):
        ShapeStatistics.from_chunks(shapes)
    with pytest.raises(ValueError, match="got int; expected an iterable"):
        ShapeStatistics.from_chunks(3)
    with pytest.raises(ValueError, match="map: got int; expected a function"):
        ShapeStatistics.from_chunks([shapes], map=3)


def test_bad_chunks(rng):
    shapes = rng.normal(size=(20, 4, 2))
    with pytest.raises(ValueError, match=r"^chunks: got shapes \(4, 2\) and \(3, 2\)"):
        ShapeStatistics.from_chunks([shapes, shapes[:, :3]])
    with pytest.raises(ValueError, match=r"^chunks: got no shapes"):
        ShapeStatistics.from_chunks([])
    with pytest.raises(ValueError, match=r"^chunks: got no shapes"):
        ShapeStatistics.from_chunks([shapes[:0]])
    with pytest.raises(ValueError, match=r"chunks: got NaN or infinity.*ASM\.fit"):
        ShapeStatistics.from_chunks([np.full((3, 4, 2), np.nan)])
    with pytest.raises(ValueError, match=r"^chunks: got shape"):
        ShapeStatistics.from_chunks([shapes[0, 0]])
    with pytest.raises(ValueError, match=r"got 1 sample\(s\)"):
        ASM().fit_chunks([shapes[:1]])
    with pytest.raises(ValueError, match="'ledoit_wolf' needs each shape"):
        ASM(shrinkage="ledoit_wolf").fit_chunks([shapes])
    with pytest.raises(ValueError, match="scatter: got an array of shape"):
        ShapeStatistics(2, np.zeros((4, 2)), np.zeros((4, 4)))
    with pytest.raises(ValueError, match="expected at least 2 for a covariance"):
        _ = ShapeStatistics.from_shapes(shapes[:1]).covariance


def test_shrinkage_from_chunks(rng):
    shapes = rng.normal(size=(20, 4, 2))
    np.testing.assert_allclose(
        ASM(2, shrinkage="oas").fit_chunks([shapes[:7], shapes[7:]]).explained_variance_,
        ASM(2, shrinkage="oas").fit(shapes).explained_variance_,
        rtol=1e-12,
    )


def test_dask_on_a_local_cluster_of_two_processes(rng):
    distributed = pytest.importorskip("distributed")
    array = pytest.importorskip("dask.array")
    import dask

    shapes = rng.normal(size=(600, 6, 2)) @ np.diag([2.0, 1.0]) + 50
    whole = ASM(3).fit(shapes)
    settings = {"distributed.worker.daemon": False, "distributed.admin.log-length": 0}
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, worker_dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        blocks = array.from_array(shapes, chunks=(200, 6, 1))
        by_array = ASM(3).fit_chunks(blocks)
        by_client = ASM(3).fit_chunks([shapes[:100], shapes[100:450], shapes[450:]], map=client)
    for asm in (by_array, by_client):
        assert asm.n_samples_ == 600
        np.testing.assert_allclose(asm.explained_variance_, whole.explained_variance_, rtol=1e-12)
        np.testing.assert_allclose(asm.mean_, whole.mean_, rtol=1e-13)
