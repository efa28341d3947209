"""The model for image coordinates: pose in, pose out, missing points, weights, chunks."""

import warnings
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from shape_models import (
    ASM,
    IBUG68,
    AlignedASM,
    DegenerateShapeError,
    GeneralizedProcrustes,
    Similarity,
    fit_shape,
    generalized_procrustes,
    load_model,
    make_faces,
)


@pytest.fixture(scope="module")
def faces():
    return make_faces(150, rng=0)


@pytest.fixture(scope="module")
def model(faces):
    return AlignedASM(ASM(0.95), scheme=IBUG68).fit(faces)


def turn(angle, scale, shift):
    c, s = np.cos(angle), np.sin(angle)
    return Similarity(np.array([[c, -s], [s, c]]), np.asarray(shift, dtype=float), scale)


def solid(rng, n=60, k=7):
    """Shapes in three dimensions: a mean, two modes, and any pose."""
    mean = rng.normal(size=(k, 3))
    modes = 0.1 * rng.normal(size=(2, k, 3))
    shapes = mean + np.einsum("nm,mkd->nkd", rng.normal(size=(n, 2)), modes)
    rotation = np.linalg.qr(rng.normal(size=(n, 3, 3)))[0]
    rotation[..., 0] *= np.sign(np.linalg.det(rotation))[:, None]
    scale = rng.uniform(0.5, 2.0, n)
    return Similarity(rotation, rng.normal(size=(n, 3)), scale)(shapes)


# --- What it does ----------------------------------------------------------------------------------------


def test_fit_is_alignment_then_asm(faces, model):
    aligned = generalized_procrustes(faces)
    asm = ASM(0.95).fit(aligned.aligned)
    np.testing.assert_allclose(model.alignment_.mean_shape_, aligned.mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(model.asm_.components_, asm.components_, rtol=0, atol=1e-9)
    assert model.scheme_ is IBUG68
    assert model.n_features_in_ == 136


@given(st.floats(-3, 3), st.floats(0.1, 50), st.floats(-500, 500), st.integers(0, 149), st.sampled_from([0, 2]))
def test_project_goes_along_with_the_pose(faces, model, angle, scale, shift, index, refinements):
    """Moving, turning and scaling the input moves, turns and scales the output."""
    model = clone_with(model, refinements)
    t = turn(angle, scale, [shift, -shift])
    wild = faces[index] + np.random.default_rng(index).normal(scale=3, size=(68, 2))
    expected = t(model.project(wild))
    np.testing.assert_allclose(model.project(t(wild)), expected, rtol=1e-8, atol=1e-8 * scale)


def clone_with(model, refinements):
    copy = clone(model).set_params(refinements=refinements)
    copy.asm_, copy.alignment_, copy.scheme_ = model.asm_, model.alignment_, model.scheme_
    return copy


def test_the_result_is_plausible_in_the_frame_of_the_model(faces, model, rng):
    wild = faces[:20] + rng.normal(scale=15, size=(20, 68, 2))
    aligned, transform = model.align(wild)
    np.testing.assert_allclose(transform(wild), aligned)
    near = transform(model.project(wild))
    b = model.asm_.basis_.encode(near)
    assert np.all(np.abs(b) <= 3 * np.sqrt(model.asm_.explained_variance_) * (1 + 1e-9))
    np.testing.assert_allclose(model.asm_.basis_.project(near), near, atol=1e-12)


def test_it_filters_noise(faces, model, rng):
    noisy = faces + rng.normal(scale=3, size=faces.shape)
    before = np.linalg.norm(noisy - faces, axis=-1).mean()
    assert np.linalg.norm(model.project(noisy) - faces, axis=-1).mean() < 0.7 * before


def test_it_is_not_idempotent_as_the_docstring_says(faces, model, rng):
    wild = faces[0] + rng.normal(scale=10, size=(68, 2))
    once = model.project(wild)
    assert np.abs(model.project(once) - once).max() > 1e-6


def test_refinements_bring_the_result_nearer(faces, model, rng):
    wild = faces + rng.normal(scale=3, size=faces.shape)
    distances = [np.square(clone_with(model, r).project(wild) - wild).sum(axis=(1, 2)).mean() for r in (0, 1, 4)]
    assert distances[0] > distances[1] > distances[2]


@pytest.mark.parametrize("refinements", [0, 1])
def test_a_batch_is_a_loop(faces, model, rng, refinements):
    model = clone_with(model, refinements)
    wild = (faces[:6] + rng.normal(scale=3, size=(6, 68, 2))).reshape(2, 3, 68, 2)
    wild[1, 2, 4:9] = np.nan
    weights = rng.random((2, 3, 68))
    for w in (None, weights):
        batch = model.project(wild, confidence=w)
        for i in range(2):
            for j in range(3):
                one = model.project(wild[i, j], confidence=None if w is None else w[i, j])
                np.testing.assert_allclose(batch[i, j], one, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("loss", ["linear", "tukey"])
def test_input_is_not_written_to_and_types_are_kept(faces, model, loss):
    torch = pytest.importorskip("torch")
    strict = pytest.importorskip("array_api_strict")
    model = with_loss(model, loss)
    wild = faces[:3].astype(np.float32)
    wild.flags.writeable = False
    result = model.project(wild)
    assert result.dtype == np.float32
    expected = model.project(wild.astype(float))
    np.testing.assert_allclose(result, expected, rtol=1e-3)
    assert model.project(faces[0].astype(int).tolist()).dtype == np.float64
    np.testing.assert_allclose(model.project(faces[:3].astype(int)), model.project(np.trunc(faces[:3])), rtol=1e-12)
    np.testing.assert_allclose(
        np.asarray(model.project(strict.asarray(faces[:3]))), model.project(faces[:3]), rtol=1e-9
    )
    for half in (wild.astype(np.float16), torch.tensor(wild).half(), torch.tensor(wild).bfloat16()):
        result = model.project(half)
        assert result.dtype == half.dtype
        assert abs(result - half).max() < 30
        assert model.align(half)[0].dtype == half.dtype
        assert fit_shape(model, half, loss=loss).weights.dtype == half.dtype


def test_torch_gives_the_same_numbers_and_gradients(faces, model, rng):
    torch = pytest.importorskip("torch")
    wild = faces[:4] + rng.normal(scale=3, size=(4, 68, 2))
    weights = rng.random((4, 68))
    x = torch.tensor(wild, requires_grad=True)
    result = model.project(x)
    np.testing.assert_allclose(result.detach().numpy(), model.project(wild), rtol=1e-10)
    result.square().sum().backward()
    assert torch.isfinite(x.grad).all()
    gaps = torch.tensor(wild)
    gaps[1, 3] = torch.nan
    for w in (weights, torch.tensor(weights)):
        result = model.project(gaps, confidence=w)
        np.testing.assert_allclose(result.numpy(), model.project(gaps.numpy(), confidence=weights), rtol=1e-8)


# --- Missing landmarks and weights -----------------------------------------------------------------------


def test_missing_landmarks_are_filled_from_the_others(faces, model):
    gaps = faces.copy()
    gaps[:, 27:36] = np.nan
    near = model.project(gaps)
    error = np.linalg.norm(near - faces, axis=-1)[:, 27:36].mean()
    spread = np.linalg.norm(model.alignment_.align(faces).inverse(model.asm_.mean_) - faces, axis=-1)[:, 27:36].mean()
    assert error < 0.7 * spread


def test_a_landmark_of_weight_zero_has_no_influence(faces, model):
    wild, gaps = faces[0].copy(), faces[0].copy()
    wild[30] += 1000
    gaps[30] = np.nan
    weights = np.ones(68)
    weights[30] = 0
    expected = model.project(gaps)
    np.testing.assert_allclose(model.project(wild, confidence=weights), expected, rtol=1e-10)
    np.testing.assert_allclose(model.project(wild, confidence=weights > 0), expected, rtol=1e-10)
    np.testing.assert_allclose(model.project(gaps, confidence=np.ones(68)), expected, rtol=1e-10)
    np.testing.assert_allclose(model.project(faces[0], confidence=np.ones(68)), model.project(faces[0]), rtol=1e-10)


def test_fit_with_missing_landmarks_agrees_with_the_complete_fit(rng):
    faces = make_faces(600, rng=1)
    gaps = faces.copy()
    gaps[rng.random((600, 68)) < 0.05] = np.nan
    full, some = AlignedASM(ASM(5)).fit(faces), AlignedASM(ASM(5)).fit(gaps)
    assert some.asm_.converged_
    np.testing.assert_allclose(some.asm_.mean_, full.asm_.mean_, atol=2e-4)
    np.testing.assert_allclose(some.asm_.explained_variance_, full.asm_.explained_variance_, rtol=0.05)


@pytest.mark.parametrize(
    "options",
    [{}, {"criterion": "partial"}, {"scaling": False}, {"tangent": True}, {"mirror": IBUG68.mirror}],
    ids=["full", "partial", "rigid", "tangent", "mirror"],
)
def test_every_alignment_takes_gaps(rng, options):
    faces = make_faces(80, rng=3)
    gaps = faces.copy()
    for i in range(0, 80, 2):
        gaps[i, rng.choice(68, 20, replace=False)] = np.nan
    full, model = (AlignedASM(ASM(3), alignment=GeneralizedProcrustes(**options)).fit(x) for x in (faces, gaps))
    np.testing.assert_allclose(model.asm_.explained_variance_, full.asm_.explained_variance_, rtol=0.15)
    error = np.linalg.norm(model.complete(gaps).shapes - faces, axis=-1)[np.isnan(gaps[..., 0])]
    assert error.mean() < 5
    assert np.isfinite(model.project(gaps)).all()


def test_score_is_that_of_the_aligned_shapes(faces, model):
    assert model.score(faces) == model.asm_.score(model.align(faces)[0])
    gaps = faces.copy()
    gaps[3, 4] = np.nan
    assert np.isfinite(model.score(gaps))
    assert model.sample(3, rng=0).shape == (3, 68, 2)


def test_complete_keeps_what_is_seen_and_gives_the_covariance_in_pixels(faces, model):
    gaps = faces[:5].copy()
    gaps[:, 27:36] = np.nan
    done = model.complete(gaps)
    np.testing.assert_array_equal(done.shapes[:, :27], faces[:5, :27])
    assert np.isfinite(done.shapes).all()
    assert done.covariance.shape == (5, 68, 2, 2)
    assert np.all(done.covariance[:, :27] == 0)
    deviation = np.sqrt(np.trace(done.covariance[:, 27:36], axis1=-2, axis2=-1))
    error = np.linalg.norm(done.shapes - faces[:5], axis=-1)[:, 27:36]
    assert np.all(error < 6 * deviation)
    t = turn(0.7, 3.0, [10, 20])
    moved = model.complete(t(gaps))
    np.testing.assert_allclose(moved.shapes, t(done.shapes), rtol=1e-9)
    linear = t.scale * t.rotation
    np.testing.assert_allclose(moved.covariance, linear @ done.covariance @ linear.T, rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(model.complete(faces[0]).shapes, faces[0])


def test_report_is_that_of_the_aligned_shapes(faces, model):
    report, by_hand = model.report(faces), model.asm_.basis_.report(model.align(faces)[0])
    np.testing.assert_allclose(report.distance, by_hand.distance, rtol=1e-9)


@pytest.mark.parametrize("n_dims", [2, 3])
@pytest.mark.parametrize("scaling", [True, False])
def test_pose_and_shape_are_found_together(rng, n_dims, scaling):
    """Shapes the model makes exactly come back whole, in any pose, whatever part of them is seen."""
    shapes = planar_or_solid(rng, n_dims, scaling)
    alignment = GeneralizedProcrustes(scaling=scaling, tangent=False)
    model = AlignedASM(ASM(8), alignment=alignment).fit(shapes[:-20])
    new = shapes[-20:]
    gaps = new.copy()
    gaps[:, :4] = np.nan
    size = np.linalg.norm(new - new.mean(axis=1, keepdims=True), axis=(1, 2))[:, None]
    error = (np.linalg.norm(model.project(gaps) - new, axis=-1) / size)[:, :4].mean()
    transform = model.alignment_.align(gaps)
    simple = transform.inverse(model.asm_.basis_.project(transform(gaps), confidence=~np.isnan(gaps[..., 0])))
    assert error < 0.2 * (np.linalg.norm(simple - new, axis=-1) / size)[:, :4].mean()


def planar_or_solid(rng, n_dims, scaling, n=420, k=12):
    mean = rng.normal(size=(k, n_dims))
    modes = 0.1 * rng.normal(size=(2, k, n_dims))
    shapes = mean + np.einsum("nm,mkd->nkd", rng.normal(size=(n, 2)), modes)
    rotation = np.linalg.qr(rng.normal(size=(n, n_dims, n_dims)))[0]
    rotation[..., 0] *= np.sign(np.linalg.det(rotation))[:, None]
    scale = rng.uniform(0.5, 2.0, n) if scaling else np.ones(n)
    return Similarity(rotation, rng.normal(size=(n, n_dims)), scale)(shapes)


@given(st.integers(0, 149), st.integers(0, 2**32 - 1), st.floats(1e-9, 1e-6))
def test_weights_near_one_change_little(faces, model, index, seed, eps):
    """Nothing jumps where weights come in."""
    weights = 1 - eps * np.random.default_rng(seed).random(68)
    np.testing.assert_allclose(
        model.project(faces[index], confidence=weights), model.project(faces[index]), atol=1e3 * eps
    )


def test_fit_with_gaps_aligns_whole_shapes(rng):
    """Hidden landmarks cost little of the variances, less than aligning parts to parts would."""
    faces = make_faces(300, rng=2)
    gaps = faces.copy()
    for i in range(0, 300, 2):
        gaps[i, rng.choice(68, 25, replace=False)] = np.nan
    full, model = AlignedASM(ASM(4)).fit(faces), AlignedASM(ASM(4)).fit(gaps)
    parts = ASM(4).fit(generalized_procrustes(gaps).aligned)

    def off(asm):
        return np.abs(np.log(asm.explained_variance_ / full.asm_.explained_variance_)).max()

    assert off(model.asm_) < off(parts)
    assert off(model.asm_) < 0.05


# --- Landmarks that are far off --------------------------------------------------------------------------


def with_errors(faces, rng, n_wrong, size=60.0):
    wrong = np.stack([rng.choice(68, n_wrong, replace=False) for _ in faces])
    off = faces + rng.normal(scale=0.5, size=faces.shape)
    off[np.arange(len(faces))[:, None], wrong] += rng.normal(scale=size, size=(*wrong.shape, 2))
    return off, wrong


@pytest.mark.parametrize(("loss", "share"), [("huber", 0.4), ("tukey", 0.3)])
@pytest.mark.parametrize("n_wrong", [3, 12])
def test_a_robust_loss_keeps_errors_where_they_are(faces, model, rng, loss, share, n_wrong):
    off, wrong = with_errors(faces[:30], rng, n_wrong)

    def error(loss):
        return np.linalg.norm(with_loss(model, loss).project(off) - faces[:30], axis=-1).mean()

    assert error(loss) < share * error("linear")
    trust = fit_shape(model, off, loss=loss).weights
    rows = np.arange(30)[:, None]
    assert np.median(trust[rows, wrong]) < 0.2
    right = np.ones((30, 68), dtype=bool)
    right[rows, wrong] = False
    assert np.median(trust[right]) > 0.7


def with_loss(model, loss):
    copy = clone_with(model, 0)
    return copy.set_params(loss=loss)


@pytest.mark.parametrize("loss", ["huber", "tukey"])
def test_a_robust_loss_costs_little_without_errors(faces, model, rng, loss):
    noisy = faces + rng.normal(scale=2, size=faces.shape)
    plain, robust = (np.linalg.norm(m.project(noisy) - faces, axis=-1).mean() for m in (model, with_loss(model, loss)))
    assert robust < 1.1 * plain


@pytest.mark.parametrize("loss", ["huber", "tukey"])
def test_a_robust_loss_meets_gaps_weights_batches_and_torch(faces, model, rng, loss):
    torch = pytest.importorskip("torch")
    model = with_loss(model, loss)
    off, _ = with_errors(faces[:4], rng, 6)
    off[1, 10:20] = np.nan
    weights = rng.uniform(0.5, 1.0, size=(4, 68))
    weights[2, 5] = 0
    batch = model.project(off, confidence=weights)
    assert np.isfinite(batch).all()
    for i in range(4):
        np.testing.assert_allclose(model.project(off[i], confidence=weights[i]), batch[i], rtol=1e-6)
    other = model.project(torch.tensor(off), confidence=torch.tensor(weights)).numpy()
    np.testing.assert_allclose(other, batch, rtol=1e-6)
    trust = fit_shape(model, off, confidence=weights, loss=loss).weights
    assert np.all((trust >= 0) & (trust <= weights))
    assert np.all(trust[1, 10:20] == 0)
    assert trust[2, 5] == 0
    filled = model.complete(off).shapes
    seen = ~np.isnan(off)
    np.testing.assert_array_equal(filled[seen], off[seen])
    assert np.linalg.norm(filled - faces[:4], axis=-1)[1, 10:20].mean() < 10


def test_trust_is_one_where_nothing_speaks_against(faces, model):
    np.testing.assert_array_equal(fit_shape(model, faces[0]).weights, np.ones(68))
    smooth = model.project(faces[0])
    for loss in ("huber", "tukey"):
        assert fit_shape(model, smooth, loss=loss).weights.min() > 0.2
        np.testing.assert_allclose(with_loss(model, loss).project(smooth), model.project(smooth), atol=0.1)


# --- Chunks ----------------------------------------------------------------------------------------------


def assert_same_model(one, other, rtol=1e-10):
    assert one.asm_.n_components_ == other.asm_.n_components_
    assert one.asm_.n_samples_ == other.asm_.n_samples_
    np.testing.assert_allclose(one.alignment_.mean_shape_, other.alignment_.mean_shape_, rtol=0, atol=rtol)
    np.testing.assert_allclose(one.asm_.mean_, other.asm_.mean_, rtol=0, atol=rtol)
    scale = other.asm_.explained_variance_[0]
    np.testing.assert_allclose(one.asm_.explained_variance_, other.asm_.explained_variance_, rtol=0, atol=rtol * scale)
    np.testing.assert_allclose(one.asm_.noise_variance_, other.asm_.noise_variance_, rtol=0, atol=rtol * scale)
    np.testing.assert_allclose(one.alignment_.disparity_, other.alignment_.disparity_, rtol=1e3 * rtol)
    np.testing.assert_array_equal(one.alignment_.mirrored_, other.alignment_.mirrored_)


@given(st.lists(st.integers(0, 150), max_size=5))
def test_any_cut_gives_the_fit_in_memory(faces, model, cuts):
    assert_same_model(AlignedASM(ASM(0.95)).fit_chunks(np.split(faces, sorted(cuts))), model)


def test_far_from_the_origin():
    faces = make_faces(200, rng=0)
    far = faces + 1000 * np.ptp(faces)
    assert_same_model(AlignedASM().fit_chunks(np.array_split(far, 3)), AlignedASM().fit(far))


@pytest.mark.parametrize(
    "options", [{}, {"criterion": "partial"}, {"scaling": False}, {"tangent": True}, {"reflection": True}], ids=str
)
@pytest.mark.parametrize("n_dims", [2, 3])
def test_every_alignment_streams(rng, faces, options, n_dims):
    shapes = faces[:60] if n_dims == 2 else solid(rng)
    model = AlignedASM(ASM(2), alignment=GeneralizedProcrustes(tol=1e-13, max_iter=500, **options))
    passes = []

    def chunks():
        passes.append(1)
        return np.array_split(shapes, 4)

    streamed = clone(model).fit_chunks(chunks)
    assert_same_model(streamed, model.fit(shapes), rtol=1e-9)
    if n_dims == 2 and not options:
        assert streamed.alignment_.n_iter_ == 1
        assert len(passes) == 3  # a look at the first shape, the mean, the modes


def test_mirrored_shapes_are_named_by_their_place(faces):
    shapes = faces[:90].copy()
    shapes[[5, 40, 71], :, 0] *= -1
    gaps = shapes.copy()
    gaps[::7, :5] = np.nan
    aligned = generalized_procrustes(faces[:90]).aligned
    aligned[[5, 40, 71], :, 0] *= -1
    for fit in (
        lambda: AlignedASM(ASM(3)).fit_chunks(np.array_split(shapes, 4)),
        lambda: AlignedASM(ASM(3)).fit(shapes),
        lambda: AlignedASM(ASM(3)).fit(gaps),
        lambda: GeneralizedProcrustes().fit(shapes),
        lambda: ASM(3).fit(aligned),
        lambda: ASM(3).fit(np.where(np.isnan(gaps), np.nan, aligned)),
    ):
        with pytest.warns(
            UserWarning, match=r"3 of 90 look like mirror images of the rest .*: 5, 40, 71\. Try"
        ) as told:
            fit()
        assert [warning.filename for warning in told] == [__file__]
    with pytest.warns(UserWarning, match="mirror images"):
        streamed = AlignedASM(ASM(3)).fit_chunks(np.array_split(shapes, 4))
    with pytest.warns(UserWarning, match="mirror images"):
        assert_same_model(streamed, AlignedASM(ASM(3)).fit(shapes))
    np.testing.assert_array_equal(streamed.alignment_.mirrored_, [5, 40, 71])
    for wild in (np.random.default_rng(0).normal(size=(50, 6, 2)), np.random.default_rng(0).normal(size=(50, 6, 3))):
        ASM(3).fit(wild)  # in shapes without a common side there are no mirror images: no warning
        AlignedASM(ASM(3)).fit(wild)


def _load(seed):
    return make_faces(40, rng=seed)


def test_processes_load_and_count(model):
    whole = AlignedASM(ASM(4)).fit(np.concatenate([_load(seed) for seed in range(3)]))
    with ProcessPoolExecutor(1) as pool:
        assert_same_model(AlignedASM(ASM(4)).fit_chunks(range(3), load=_load, map=pool.map), whole)


def test_dask_arrays_stream_in_one_process(faces, model):
    array = pytest.importorskip("dask.array")
    import dask

    with dask.config.set(scheduler="synchronous"):
        blocks = array.from_array(faces, chunks=(60, 68, 1))
        assert_same_model(AlignedASM(ASM(0.95)).fit_chunks(blocks), model)


# --- Refusals --------------------------------------------------------------------------------------------


def test_bad_input(faces, model):
    with pytest.raises(ValueError, match=r"got an array of shape \(66, 2\); expected \(\.\.\., 68, 2\)"):
        model.project(faces[0, :66])
    with pytest.raises(ValueError, match="shapes: got 3 coordinates per landmark; expected 2"):
        model.project(np.zeros((68, 3)))
    with pytest.raises(ValueError, match=r"infinite|infinity"):
        model.project(np.where(faces[0] == faces[0, 3, 0], np.inf, faces[0]))
    with pytest.raises(ValueError, match="confidence"):
        model.project(faces[0], confidence=-np.ones(68))
    with pytest.raises(DegenerateShapeError):
        model.project(np.ones((68, 2)))
    with pytest.raises(DegenerateShapeError):
        model.project(np.full((68, 2), np.nan))
    gaps = np.full((68, 2), np.nan)
    gaps[3] = 1
    with pytest.raises(DegenerateShapeError):
        model.project(gaps)
    with pytest.raises(NotFittedError):
        AlignedASM().project(faces[0])
    with pytest.raises(ValueError, match=r"got shape \(68, 2\); expected \(n_samples"):
        AlignedASM().fit(faces[0])
    with pytest.raises(ValueError, match="got shapes of 60 landmarks; expected 68"):
        AlignedASM(scheme="ibug68").fit(faces[:, :60])
    with pytest.raises(ValueError, match="refinements: got -1"):
        AlignedASM(refinements=-1).fit(faces)
    with pytest.raises(ValueError, match="loss: got 'cauchy'"):
        AlignedASM(loss="cauchy").fit(faces)
    with pytest.raises(ValueError, match="loss: got 'cauchy'"):
        clone_with(model, 0).set_params(loss="cauchy").project(faces[0])
    with pytest.raises(ValueError, match="mirror: a symmetric mean is not learned from chunks"):
        AlignedASM(alignment=GeneralizedProcrustes(mirror=IBUG68.mirror)).fit_chunks([faces])
    gaps = faces.copy()
    gaps[3, 4] = np.nan
    with pytest.raises(ValueError, match=r"chunks: got a missing landmark.*Try .*AlignedASM\.fit"):
        AlignedASM().fit_chunks([gaps])
    with pytest.raises(ValueError, match="one-shot generator"):
        AlignedASM().fit_chunks(part for part in [faces])


def test_parameters_and_tags():
    model = AlignedASM(ASM(3), alignment=GeneralizedProcrustes(tangent=True), scheme="ibug68")
    copy = clone(model)
    assert copy.get_params()["asm__n_components"] == 3
    assert copy.get_params()["alignment__tangent"] is True
    assert copy.set_params(asm__limit=2.0).asm.limit == 2.0
    tags = model.__sklearn_tags__().input_tags
    assert tags.allow_nan
    assert tags.three_d_array


# --- Real landmarks --------------------------------------------------------------------------------------


@pytest.mark.data
def test_faces_in_the_wild(data_dir):
    """Variance curve of the training faces, and how near new faces are to the model, against what is published.

    Spread of the 300-W: some 17 modes hold 95 % of the shape variance; a new face is nearer the more modes there are.
    """
    from shape_models.datasets import read_300w

    new = read_300w(data_dir / "300w", split="val").shapes()
    bundled = load_model("face68")
    shares = np.cumsum(bundled.asm_.explained_variance_ratio_)
    assert 0.3 < shares[0] < 0.6
    assert 5 <= np.searchsorted(shares, 0.90) + 1 <= 14
    assert 13 <= np.searchsorted(shares, 0.95) + 1 <= 22
    eyes = np.linalg.norm(new[:, 36] - new[:, 45], axis=-1)[:, None]
    error = np.linalg.norm(bundled.project(new) - new, axis=-1) / eyes
    assert error.mean() < 0.015
    gaps = new.copy()
    gaps[:, :17] = np.nan
    filled = np.linalg.norm(bundled.project(gaps) - new, axis=-1)[:, :17] / eyes
    mean = bundled.alignment_.align(gaps).inverse(bundled.asm_.mean_)
    assert filled.mean() < 0.6 * (np.linalg.norm(mean - new, axis=-1)[:, :17] / eyes).mean()


@pytest.mark.data
def test_a_robust_loss_on_faces_in_the_wild(data_dir, rng):
    """Six misplaced landmarks spoil the least-squares filter; with Tukey's loss it is as if there were none."""
    from shape_models.datasets import read_300w

    faces = read_300w(data_dir / "300w", split="val").shapes()[::4]
    eyes = np.linalg.norm(faces[:, 36] - faces[:, 45], axis=-1)[:, None, None]
    off = faces.copy()
    rows = np.arange(len(faces))[:, None]
    wrong = np.stack([rng.choice(68, 6, replace=False) for _ in faces])
    off[rows, wrong] += 0.3 * eyes * rng.normal(size=(len(faces), 6, 2))

    def error(shapes, loss):
        near = load_model("face68").set_params(loss=loss).project(shapes)
        return (np.linalg.norm(near - faces, axis=-1) / eyes[..., 0]).mean()

    assert error(off, "linear") > 0.03
    assert error(off, "huber") < 1.2 * error(faces, "linear")
    assert error(off, "tukey") < 1.1 * error(faces, "linear")


def read_tps(path):
    shapes = []
    for line in path.read_text().splitlines():
        if line.startswith("LM="):
            shapes.append([])
        elif line and "=" not in line:
            shapes[-1].append([float(value) for value in line.split()])
    return np.array(shapes)


@pytest.mark.data
@pytest.mark.parametrize("name", ["plethodon", "fly_wings", "hands"])
def test_the_same_three_lines_fit_anything(data_dir, name):
    if name == "fly_wings":
        shapes = read_tps(data_dir / "fly_wings" / "tps-example.tps")
    else:
        path = {"plethodon": "landmarks/plethodon.npz", "hands": "hands/landmarks.npz"}[name]
        shapes = np.load(data_dir / path)["shapes"]
    model = AlignedASM().fit(shapes)
    assert model.alignment_.converged_
    size = np.linalg.norm(shapes - shapes.mean(axis=1, keepdims=True), axis=(1, 2))
    error = np.linalg.norm(model.project(shapes) - shapes, axis=(1, 2)) / size
    mean = np.linalg.norm(model.alignment_.align(shapes).inverse(model.asm_.mean_) - shapes, axis=(1, 2)) / size
    assert error.mean() < 0.45 * mean.mean()


def test_each_warning_of_a_fit_with_gaps_comes_once():
    shapes = make_faces(30, rng=0)
    shapes[np.random.default_rng(0).uniform(size=shapes.shape[:2]) < 0.5] = np.nan
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        AlignedASM(ASM(0.95, max_iter=3)).fit(shapes)
    texts = [str(one.message) for one in caught]
    assert sum("did not settle in 3 steps" in text for text in texts) == 1
    assert sum("too few for" in text for text in texts) == 1
