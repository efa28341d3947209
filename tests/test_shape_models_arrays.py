"""The door: what every function makes of arrays that are none, stand in another order, or hide a mask."""

import copy
import functools
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from shape_models import (
    ASM,
    AlignedASM,
    Box,
    DegenerateShapeError,
    Ellipsoid,
    GeneralizedProcrustes,
    LandmarkFile,
    ShapeBasis,
    ShapeStatistics,
    Similarity,
    SoftBox,
    advise_n_components,
    centroid_size,
    compactness,
    estimate_similarity,
    generalization,
    generalized_procrustes,
    leave_one_out,
    make_faces,
    mirror_shapes,
    specificity,
    write_table,
)

FACES = generalized_procrustes(make_faces(30, rng=0)).aligned
ONES = np.ones(68)


@functools.cache
def model(kind):
    return kind().fit(FACES)


def basis():
    return model(ASM).basis_


# Every argument that takes numbers, by the function that takes it; the second entry is what is right there.
ARGUMENTS = {
    "ASM.fit": (lambda x: ASM().fit(x), FACES),
    "ASM.fit_chunks": (lambda x: ASM().fit_chunks([FACES, x]), FACES),
    "ASM.transform": (lambda x: model(ASM).transform(x), FACES),
    "ASM.inverse_transform": (lambda x: model(ASM).inverse_transform(x), np.zeros((2, 20))),
    "ASM.project": (lambda x: model(ASM).project(x), FACES),
    "ASM.project confidence": (lambda x: model(ASM).project(FACES, confidence=x), ONES),
    "ASM.complete": (lambda x: model(ASM).complete(x), FACES),
    "ASM.report": (lambda x: model(ASM).report(x), FACES),
    "ASM.score": (lambda x: model(ASM).score(x), FACES),
    "AlignedASM.fit": (lambda x: AlignedASM().fit(x), FACES),
    "AlignedASM.fit_chunks": (lambda x: AlignedASM().fit_chunks([FACES, x]), FACES),
    "AlignedASM.align": (lambda x: model(AlignedASM).align(x), FACES),
    "AlignedASM.project": (lambda x: model(AlignedASM).project(x), FACES),
    "AlignedASM.project confidence": (lambda x: model(AlignedASM).project(FACES, confidence=x), ONES),
    "AlignedASM.complete": (lambda x: model(AlignedASM).complete(x), FACES),
    "AlignedASM.report": (lambda x: model(AlignedASM).report(x), FACES),
    "AlignedASM.score": (lambda x: model(AlignedASM).score(x), FACES),
    "ShapeBasis mean": (lambda x: ShapeBasis(x, np.eye(2, 136), np.ones(2)), FACES[0]),
    "ShapeBasis components": (lambda x: ShapeBasis(FACES[0], x, np.ones(2)), np.eye(2, 136)),
    "ShapeBasis variances": (lambda x: ShapeBasis(FACES[0], np.eye(2, 136), x), np.ones(2)),
    "ShapeBasis.encode": (lambda x: basis().encode(x), FACES),
    "ShapeBasis.encode confidence": (lambda x: basis().encode(FACES, confidence=x), ONES),
    "ShapeBasis.clip": (lambda x: basis().clip(x), np.zeros((2, 20))),
    "ShapeBasis.decode": (lambda x: basis().decode(x), np.zeros((2, 20))),
    "ShapeBasis.project": (lambda x: basis().project(x), FACES),
    "ShapeBasis.project confidence": (lambda x: basis().project(FACES, confidence=x), ONES),
    "ShapeBasis.complete": (lambda x: basis().complete(x), FACES),
    "ShapeBasis.report": (lambda x: basis().report(x), FACES),
    "ShapeBasis.mahalanobis": (lambda x: basis().mahalanobis(x), FACES),
    "ShapeBasis.log_likelihood": (lambda x: basis().log_likelihood(x), FACES),
    "ShapeBasis.like": (lambda x: basis().like(x), FACES),
    "Box.clip": (lambda x: Box(3.0).clip(x, np.ones(3)), np.zeros((2, 3))),
    "Box.exceeds": (lambda x: Box(3.0).exceeds(x, np.ones(3)), np.zeros((2, 3))),
    "Box.clip scale": (lambda x: Box(3.0).clip(np.zeros((2, 3)), x), np.ones(3)),
    "SoftBox.clip": (lambda x: SoftBox(3.0).clip(x, np.ones(3)), np.zeros((2, 3))),
    "Ellipsoid.clip": (lambda x: Ellipsoid(3.0).clip(x, np.ones(3)), np.zeros((2, 3))),
    "Ellipsoid.clip scale": (lambda x: Ellipsoid(3.0).clip(np.zeros((2, 3)), x), np.ones(3)),
    "ShapeStatistics.from_shapes": (lambda x: ShapeStatistics.from_shapes(x), FACES),
    "ShapeStatistics mean": (lambda x: ShapeStatistics(3, x, np.eye(4)), np.zeros((2, 2))),
    "ShapeStatistics scatter": (lambda x: ShapeStatistics(3, np.zeros((2, 2)), x), np.eye(4)),
    "Similarity rotation": (lambda x: Similarity(x, np.zeros(2)), np.eye(2)),
    "Similarity translation": (lambda x: Similarity(np.eye(2), x), np.zeros(2)),
    "Similarity scale": (lambda x: Similarity(np.eye(2), np.zeros(2), x), np.ones(3)),
    "Similarity.from_matrix": (lambda x: Similarity.from_matrix(x), np.eye(3)),
    "Similarity call": (lambda x: Similarity.identity(2)(x), FACES),
    "Similarity.residuals source": (lambda x: Similarity.identity(2).residuals(x, FACES), FACES),
    "Similarity.residuals target": (lambda x: Similarity.identity(2).residuals(FACES, x), FACES),
    "estimate_similarity source": (lambda x: estimate_similarity(x, FACES), FACES),
    "estimate_similarity target": (lambda x: estimate_similarity(FACES, x), FACES),
    "estimate_similarity weights": (lambda x: estimate_similarity(FACES, FACES[0], weights=x), ONES),
    "generalized_procrustes": (lambda x: generalized_procrustes(x), FACES),
    "generalized_procrustes weights": (lambda x: generalized_procrustes(FACES, weights=x), ONES),
    "generalized_procrustes mirror": (lambda x: generalized_procrustes(FACES, mirror=x), np.arange(68)),
    "GeneralizedProcrustes.fit": (lambda x: GeneralizedProcrustes().fit(x), FACES),
    "GeneralizedProcrustes.align": (lambda x: model(GeneralizedProcrustes).align(x), FACES),
    "GeneralizedProcrustes.align weights": (lambda x: model(GeneralizedProcrustes).align(FACES, x), ONES),
    "GeneralizedProcrustes.transform": (lambda x: model(GeneralizedProcrustes).transform(x), FACES),
    "mirror_shapes": (lambda x: mirror_shapes(x, np.arange(68)), FACES),
    "mirror_shapes mirror": (lambda x: mirror_shapes(FACES, x), np.arange(68)),
    "compactness": (lambda x: compactness(x), FACES),
    "generalization": (lambda x: generalization(x, n_folds=3), FACES),
    "generalization groups": (lambda x: generalization(FACES, groups=x), np.arange(30) // 10),
    "leave_one_out": (lambda x: leave_one_out(x, 3, n_folds=3), FACES),
    "specificity": (lambda x: specificity(x, n_samples=10, rng=0), FACES),
    "advise_n_components": (lambda x: advise_n_components(x, n_permutations=2, n_folds=3, rng=0), FACES),
}


def right(name):
    call, value = ARGUMENTS[name]
    if name in ("ASM.inverse_transform", "ShapeBasis.clip", "ShapeBasis.decode"):
        value = value[:, : basis().n_components]
    return call, value


def masked(x):
    mask = np.zeros(x.shape, dtype=bool)
    mask[(0,) * x.ndim] = True
    return np.ma.array(x, mask=mask)


def masked_within_lists(x):
    inside = masked(x)
    return [inside[0], *inside[1:].tolist()] if x.ndim > 1 else [np.ma.masked, *x[1:].tolist()]


# What nobody can read numbers from, and a word of the message.
CONTAINERS = {
    "masked": (masked, "masked array"),
    "masked within lists": (masked_within_lists, "masked array"),
    "set": (lambda x: {1.0, 2.0}, "got a set"),
    "dict": (lambda x: {0: x}, "got a dict"),
    "text": (lambda x: "abc", "got a str"),
    "iterator": (lambda x: iter(x.tolist()), "iterator"),
    "object": (lambda x: object(), "got a object"),
    "complex": (lambda x: x + 1j, "complex"),
    "structured": (lambda x: np.zeros(x.shape[:1], dtype=[("x", float), ("y", float)]), r"'x'.*structured_to"),
    "dates": (lambda x: np.zeros(x.shape, dtype="datetime64[s]"), "datetime"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_what_is_right_passes(name):
    call, value = right(name)
    call(value)
    call(value.tolist())


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize("name", ARGUMENTS)
def test_what_holds_no_numbers_is_refused_in_our_words(name, kind):
    call, value = right(name)
    spoil, word = CONTAINERS[kind]
    if name in ("generalization groups", "ShapeBasis.like") and kind not in ("masked", "masked within lists"):
        pytest.skip("labels may be anything, and only the type of `like` matters")
    if name.endswith("fit_chunks") and kind in ("iterator", "text", "set", "dict"):
        word = "got a"
    with pytest.raises((TypeError, ValueError), match=word if "mirror" not in name else "got|masked"):
        call(spoil(value))


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # of np.matrix itself
@pytest.mark.parametrize("name", ["ASM.transform", "ShapeBasis.project", "ShapeBasis.encode", "ShapeBasis.complete"])
def test_matrices_and_long_doubles_are_read_as_arrays(name):
    flat = ASM(3).fit(FACES.reshape(30, -1))
    act = {
        "ASM.transform": flat.transform,
        "ShapeBasis.project": flat.basis_.project,
        "ShapeBasis.encode": flat.basis_.encode,
        "ShapeBasis.complete": lambda x: flat.basis_.complete(x).shapes,
    }[name]
    table = FACES[:2].reshape(2, -1)
    np.testing.assert_allclose(act(np.asmatrix(table)), act(table), rtol=1e-12)
    np.testing.assert_allclose(np.asarray(act(table.astype(np.longdouble)), dtype=float), act(table), atol=1e-15)
    np.testing.assert_allclose(act(table.astype(">f8")), act(table), rtol=1e-12)


# --- Axes in another order ----------------------------------------------------------------------------------

FITS = [
    "ASM.fit",
    "ASM.fit_chunks",
    "AlignedASM.fit",
    "AlignedASM.fit_chunks",
    "generalized_procrustes",
    "GeneralizedProcrustes.fit",
    "compactness",
    "generalization",
    "leave_one_out",
    "specificity",
    "advise_n_components",
    "estimate_similarity source",
    "estimate_similarity target",
    "ShapeStatistics.from_shapes",
]
MODELS = [
    "ASM.transform",
    "ASM.project",
    "ASM.score",
    "AlignedASM.project",
    "AlignedASM.align",
    "AlignedASM.complete",
    "ShapeBasis.encode",
    "ShapeBasis.project",
    "ShapeBasis.complete",
    "ShapeBasis.report",
    "GeneralizedProcrustes.align",
    "GeneralizedProcrustes.transform",
]


@pytest.mark.parametrize("name", FITS + MODELS)
def test_the_array_of_r_is_brought_into_order(name):
    """(landmarks, dims, specimens): the hint, obeyed, gives the shapes."""
    call, _ = ARGUMENTS[name]
    with pytest.raises(ValueError, match=r"Try np\.moveaxis\(.*, -1, 0\).*R") as caught:
        call(np.moveaxis(FACES, 0, -1))
    assert "swapaxes" not in str(caught.value)


@pytest.mark.parametrize("name", MODELS)
def test_coordinates_before_landmarks_are_named_where_the_model_knows(name):
    call, _ = ARGUMENTS[name]
    with pytest.raises(ValueError, match=r"Try np\.swapaxes\(shapes, -1, -2\)"):
        call(np.swapaxes(FACES, 1, 2))


def test_no_hint_where_the_order_cannot_be_told():
    square = np.moveaxis(make_faces(68, rng=0), 0, -1)  # 68 landmarks of 68 faces
    with pytest.raises(ValueError, match="2") as caught:
        basis().project(square)
    assert "swapaxes" not in str(caught.value)
    assert "moveaxis" not in str(caught.value)


@pytest.mark.parametrize("name", ["estimate_similarity source", "estimate_similarity target", *MODELS[:-2]])
def test_the_layout_of_opencv_is_named(name):
    call, _ = ARGUMENTS[name]
    with pytest.raises(ValueError, match=r"np\.squeeze\(.*, axis=-2\).*OpenCV"):
        call(FACES[0][:, None, :])


@pytest.mark.parametrize("name", MODELS)
def test_the_input_is_blamed_and_not_the_model(name):
    call, _ = ARGUMENTS[name]
    with pytest.raises(ValueError, match=r"(shapes: )?got 3 coordinates per landmark; expected 2|got \(68, 3\)"):
        call(np.zeros((1, 68, 3)))


# --- Numbers that cannot be computed with -------------------------------------------------------------------

LEARN = [name for name in FITS if "chunks" not in name and "similarity" not in name]


@pytest.mark.parametrize("scale", [1e155, 1e160, 1e-150, 1e-160, 1e-200])
@pytest.mark.parametrize("name", LEARN)
def test_units_whose_squares_leave_the_range_are_refused(name, scale):
    with pytest.raises(ValueError, match=r"Try other units|coincide|squares overflow"):
        ARGUMENTS[name][0](FACES * scale)


@pytest.mark.parametrize("shape", [(0, 68, 2), (5, 0, 2), (5, 68, 0), (0,), (0, 0), ()])
@pytest.mark.parametrize("name", LEARN)
def test_nothing_is_refused_in_our_words(name, shape):
    if name == "ShapeStatistics.from_shapes" and shape == (0, 68, 2):
        assert ShapeStatistics.from_shapes(np.zeros(shape)).n_samples == 0
        return
    with pytest.raises(ValueError, match=r"expected|[Rr]eshape|minimum") as caught:
        ARGUMENTS[name][0](np.zeros(shape))
    assert "zero-size" not in str(caught.value)


def test_infinite_coefficients_are_refused_and_missing_ones_stay_missing():
    b = np.zeros((3, basis().n_components))
    b[1, 0] = np.inf
    for call in (basis().decode, model(ASM).inverse_transform):
        with pytest.raises(ValueError, match="coefficients: got infinity"):
            call(b)
    assert basis().clip(b)[1, 0] == pytest.approx(3 * np.sqrt(basis().variances[0]))
    b[1, 0] = np.nan
    shapes = basis().decode(b)
    assert np.isnan(shapes[1]).all()
    np.testing.assert_array_equal(shapes[[0, 2]], np.stack([basis().mean] * 2))


# --- Tensors ------------------------------------------------------------------------------------------------

NUMPY_ONLY = [
    "ASM.fit",
    "ASM.transform",
    "ASM.inverse_transform",
    "ASM.score",
    "AlignedASM.fit",
    "AlignedASM.score",
    "GeneralizedProcrustes.fit",
    "GeneralizedProcrustes.transform",
    "generalized_procrustes",
    "compactness",
    "specificity",
    "ShapeStatistics.from_shapes",
]
ANY_LIBRARY = [
    "ASM.project",
    "ShapeBasis.encode",
    "ShapeBasis.decode",
    "ShapeBasis.clip",
    "ShapeBasis.project",
    "ShapeBasis.complete",
    "ShapeBasis.report",
    "Similarity call",
    "Similarity.residuals source",
    "AlignedASM.project",
    "AlignedASM.align",
]


@pytest.mark.parametrize("name", NUMPY_ONLY + ANY_LIBRARY)
def test_tensors_without_numbers_are_refused(name):
    torch = pytest.importorskip("torch")
    call, value = right(name)
    tensor = torch.tensor(value)
    for spoilt, word in (
        (tensor.to_sparse(), "sparse"),
        (tensor.to("meta"), "meta"),
        (tensor + 1j, "complex"),
        (tensor > 0, "bool"),
    ):
        with pytest.raises(TypeError, match=word):
            call(spoilt)


@pytest.mark.parametrize("name", NUMPY_ONLY)
def test_a_gradient_is_not_lost_in_silence(name):
    torch = pytest.importorskip("torch")
    call, value = right(name)
    with pytest.raises(TypeError, match=r"requires a gradient.*Try \w+\.detach\(\)"):
        call(torch.tensor(value, requires_grad=True))
    call(torch.tensor(value))


@pytest.mark.parametrize("name", NUMPY_ONLY + ANY_LIBRARY)
def test_half_precision_is_read(name):
    torch = pytest.importorskip("torch")
    call, value = right(name)
    call(torch.tensor(value).to(torch.bfloat16))


def test_long_lists_of_tensors_are_refused_where_numpy_cannot_read_them():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="list"):
        generalized_procrustes([torch.tensor(f, requires_grad=True) for f in FACES])


# --- Confidence and weights ---------------------------------------------------------------------------------


def test_the_former_name_of_the_confidence_still_works_with_a_warning():
    w = np.linspace(0, 1, 68)
    for act in (basis().project, basis().encode, model(ASM).project, model(AlignedASM).project):
        with pytest.warns(FutureWarning, match="confidence="):
            old = act(FACES, weights=w)
        np.testing.assert_allclose(old, act(FACES, confidence=w), rtol=1e-9)
        with pytest.raises(TypeError, match="one of them"):
            act(FACES, weights=w, confidence=w)


def test_weights_are_relative_and_confidence_is_absolute():
    w = np.linspace(0.1, 1, 68)
    first, second = (estimate_similarity(FACES[0], FACES[1], weights=s * w) for s in (1, 50))
    np.testing.assert_allclose(first.as_matrix(), second.as_matrix(), rtol=1e-12)
    assert np.abs(basis().project(FACES[0], confidence=w) - basis().project(FACES[0], confidence=w / 2)).max() > 1e-6
    for act in (basis().project, model(AlignedASM).project):
        for wrong in (5 * w, w - 1):
            with pytest.raises(ValueError, match="expected numbers from 0 to 1"):
                act(FACES[0], confidence=wrong)


# --- A fit that fails changes nothing -----------------------------------------------------------------------

BAD = np.ones((10, 5, 2))  # all shapes are equal, all points coincide


class Interrupt:
    """Chunks that are interrupted in the middle."""

    def __iter__(self):
        yield FACES[:10]
        raise KeyboardInterrupt


FAILING = {
    "refused": (lambda e: e.fit(BAD), ValueError),
    "refused late": (
        lambda e: (
            e.set_params(**{"asm__n_components" if "asm" in e.get_params() else "n_components": 99}).fit(FACES)
            if not isinstance(e, GeneralizedProcrustes)
            else e.fit(BAD)
        ),
        ValueError,
    ),
    "interrupted": (
        lambda e: e.fit_chunks(Interrupt()) if hasattr(e, "fit_chunks") else interrupted(e),
        KeyboardInterrupt,
    ),
}


def interrupted(estimator):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shape_models._procrustes.fit_to_mean", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
        estimator.fit(FACES)


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize("how", FAILING)
@pytest.mark.parametrize("kind", [ASM, GeneralizedProcrustes, AlignedASM])
def test_a_fit_that_fails_changes_nothing(kind, how, fitted):
    estimator = kind(asm=ASM()) if kind is AlignedASM else kind()
    if fitted:
        estimator.fit(FACES[:20])
    fail, error = FAILING[how]
    before = {k: v for k, v in copy.copy(vars(estimator)).items() if k not in ("n_components", "asm")}
    with pytest.raises(error):
        fail(estimator)
    after = {k: v for k, v in vars(estimator).items() if k not in ("n_components", "asm")}
    assert before.keys() == after.keys()
    assert all(before[k] is after[k] for k in before)


def test_a_fit_interrupted_at_any_step_changes_nothing(monkeypatch):
    """Ctrl-C at each of the steps of a fit in turn."""
    import shape_models._asm as module

    for name in ("find_modes", "ShapeBasis"):
        asm = ASM(0.9)

        def stop(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr(module, name, stop)
        with pytest.raises(KeyboardInterrupt):
            asm.fit(FACES)
        monkeypatch.undo()
        assert vars(asm) == vars(ASM(0.9))
        table = asm.fit(FACES.reshape(30, -1))
        monkeypatch.setattr(module, name, stop)
        with pytest.raises(KeyboardInterrupt):
            asm.fit(FACES)
        monkeypatch.undo()
        rows = FACES.reshape(30, -1)
        np.testing.assert_allclose(table.transform(rows), asm.transform(rows), rtol=0, atol=1e-12)


def test_a_basis_that_is_degenerate_says_so():
    with pytest.raises(DegenerateShapeError, match="at least 2"):
        generalized_procrustes(np.zeros((4, 1, 2)))


def test_what_is_masked_is_missing_in_a_landmark_file():
    points = np.ma.array(np.arange(6.0).reshape(3, 2), mask=[[False] * 2, [True] * 2, [False] * 2])
    np.testing.assert_array_equal(LandmarkFile(points).points, [[0, 1], [np.nan, np.nan], [4, 5]])


def test_objects_that_are_numbers_are_numbers_and_none_is_missing():
    face, fitted = FACES[0], model(ASM)
    objects = face.astype(object)
    np.testing.assert_array_equal(fitted.project(objects), fitted.project(face))
    objects[3] = None
    missing = np.where(np.arange(len(face))[:, None] == 3, np.nan, face)
    np.testing.assert_array_equal(fitted.complete(objects).shapes, fitted.complete(missing).shapes)
    exact = [[Fraction(str(x)), Decimal(str(y))] for x, y in face.tolist()]
    np.testing.assert_array_equal(centroid_size(exact), centroid_size(face))
    for bad in ("1.5", True, 10**400, 1j):
        objects[3] = bad
        with pytest.raises(TypeError, match="got an array of objects"):
            fitted.project(objects)


def test_arrays_that_are_still_to_be_computed_are_computed():
    lazy = pytest.importorskip("dask.array").from_array(FACES)
    np.testing.assert_array_equal(model(ASM).project(lazy), model(ASM).project(FACES))


def test_a_result_in_place_of_its_shapes_is_told_where_they_are(tmp_path):
    shapes = make_faces(5, rng=0)
    result = generalized_procrustes(shapes)
    with pytest.raises(TypeError, match=r"shapes: got a ProcrustesResult; .*Try its \.aligned\."):
        write_table(tmp_path / "a.csv", result)
    fit = AlignedASM().fit(shapes).complete(shapes[0])
    with pytest.raises(TypeError, match=r"got a \w+; .*Try its \.shapes\."):
        centroid_size(fit)
