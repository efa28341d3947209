"""Every public method and every array it takes, handed what arrays of users are, as `test_hostile_calls.py` does it
for functions; and the test that no method is left out.
"""

import importlib
import inspect
import pkgutil
import re

import numpy as np
import pytest
from no_torch import has_torch
from scipy.spatial.transform import Rotation
from test_hostile_calls import (
    BOX,
    CAMERA,
    DOORS,
    ERRORS,
    FACES,
    HEAD,
    IMAGE,
    MODEL,
    ONES,
    POSE,
    RING,
    SEEN,
    SPLINE,
    assert_answers_alike,
    assert_answers_or_refuses,
    assert_refuses_what_is_no_array,
    complaint,
    flat,
    misshapen,
    search,
    strange,
)
from test_shape_models_arrays import ARGUMENTS as MODELS

import evaluation
import shape_models as sm
from evaluation.protocols import AlignedCrop, Combination, LandmarkBoxCrop, Subset, get_protocol
from pose import Camera, FaceModel3D, Pose, WeakPerspective
from shape_models import datasets
from shape_models.point_errors import learn_point_errors

BASIS = MODEL.asm_.basis_
MANY = MODEL.align(FACES)[1]
ONE = MANY[0]
WIDTHS = np.ones(3)
SOME = np.linspace(-5, 5, 6).reshape(2, 3)
COVARIANCE = np.tile(np.eye(2), (68, 1, 1))
PROCRUSTES = sm.GeneralizedProcrustes().fit(FACES)
NOISE = np.random.default_rng(0).normal(size=FACES.shape)
DETECTOR = learn_point_errors(MODEL, FACES, FACES + 0.01 * NOISE)
SAMPLES = datasets.make_face_samples(6, rng=0)
ERROR = evaluation.nme(FACES, FACES + 1, normalizer=1.0)
REPORT = evaluation.evaluate(FACES, FACES + NOISE, "300w", n_resamples=20)
CURVE = evaluation.cumulative_error(ERRORS)
RULES = get_protocol("300w")
CROPPED = get_protocol("asmnet-300w")
YAW = Subset("all", "yaw", low=0.0, high=30.0)
POSES = Pose(Rotation.random(3, rng=0), np.zeros((3, 3)))
VIEWS = WeakPerspective(np.ones(3), Rotation.random(3, rng=0), np.zeros((3, 2)))
HIDDEN = np.zeros((12, 68), bool)


def clipping(limit):
    """Return the doors of a limit."""
    name = type(limit).__name__
    return {
        f"{name}.clip coefficients": (lambda x: limit.clip(x, WIDTHS), SOME),
        f"{name}.clip scale": (lambda x: limit.clip(SOME, x), WIDTHS),
        f"{name}.exceeds coefficients": (lambda x: limit.exceeds(x, WIDTHS), SOME),
        f"{name}.exceeds scale": (lambda x: limit.exceeds(SOME, x), WIDTHS),
    }


METHODS = {
    **clipping(sm.Box(3.0)),
    **clipping(sm.SoftBox(3.0)),
    **clipping(sm.Ellipsoid(3.0)),
    "Box.bound scale": (lambda x: sm.Box(3.0).bound(x), WIDTHS),
    "Similarity.residuals source": (lambda x: MANY.residuals(x, FACES), FACES),
    "Similarity.residuals target": (lambda x: MANY.residuals(FACES, x), FACES),
    "Similarity.__call__ points": (lambda x: MANY(x), FACES),
    "Similarity.like array": (lambda x: ONE.like(x), FACES),
    "ShapeBasis.report shapes": (lambda x: BASIS.report(x), FACES),
    "ShapeBasis.mahalanobis shapes": (lambda x: BASIS.mahalanobis(x), FACES),
    "ShapeBasis.log_likelihood shapes": (lambda x: BASIS.log_likelihood(x), FACES),
    "AlignedASM.align confidence": (lambda x: MODEL.align(FACES, x), ONES),
    "AlignedASM.project covariance": (lambda x: MODEL.project(FACES, covariance=x), COVARIANCE),
    "AlignedASM.complete confidence": (lambda x: MODEL.complete(FACES, confidence=x), ONES),
    "AlignedASM.complete covariance": (lambda x: MODEL.complete(FACES, covariance=x), COVARIANCE),
    "GeneralizedProcrustes.align weights": (lambda x: PROCRUSTES.align(FACES, x), ONES),
    "GeneralizedProcrustes.fit weights": (lambda x: sm.GeneralizedProcrustes().fit(FACES, weights=x), ONES),
    "GeneralizedProcrustes.fit_transform shapes": (lambda x: sm.GeneralizedProcrustes().fit_transform(x), FACES),
    "GeneralizedProcrustes.fit_transform weights": (
        lambda x: sm.GeneralizedProcrustes().fit_transform(FACES, weights=x),
        ONES,
    ),
    "LandmarkScheme edges": (lambda x: sm.LandmarkScheme("a", 5, edges=x), np.array([[0, 1], [1, 2]])),
    "LandmarkScheme mirror": (lambda x: sm.LandmarkScheme("a", 5, mirror=x), np.array([1, 0, 2, 3, 4])),
    "LandmarkScheme groups": (lambda x: sm.LandmarkScheme("a", 5, groups={"g": x}), np.array([1, 0, 2])),
    "LandmarkScheme.flip shapes": (lambda x: sm.IBUG68.flip(x), FACES),
    "Curve indices": (lambda x: sm.Curve(x), np.arange(4)),
    "Sliding curves": (lambda x: sm.Sliding(x), np.array([[0, 1, 2]])),
    "PointErrors.correct points": (lambda x: DETECTOR.correct(x), FACES),
    "PointErrors.correct occluded": (lambda x: DETECTOR.correct(FACES, occluded=x), HIDDEN),
    "PointErrors.fit points": (lambda x: DETECTOR.fit(x), FACES),
    "PointErrors.fit occluded": (lambda x: DETECTOR.fit(FACES, occluded=x), HIDDEN),
    "learn_point_errors target": (lambda x: learn_point_errors(MODEL, x, FACES + NOISE), FACES),
    "learn_point_errors prediction": (lambda x: learn_point_errors(MODEL, FACES, x), FACES + NOISE),
    "LandmarkSample landmarks": (lambda x: datasets.LandmarkSample(None, x), FACES[0]),
    "LandmarkSample box": (lambda x: datasets.LandmarkSample(None, FACES[0], box=x), BOX),
    "LandmarkSamples.with_shapes shapes": (lambda x: SAMPLES.with_shapes(x).shapes(), SAMPLES.shapes()),
    "LandmarkSamples.unlike shapes": (lambda x: SAMPLES.unlike(x, None, None), SAMPLES.shapes()),
    "LandmarkSamples.select which": (lambda x: SAMPLES.select(x).shapes(), np.array([0, 2])),
    "ThinPlateSpline.warp_image image": (lambda x: SPLINE.warp_image(x), IMAGE),
    "ErrorArray values": (lambda x: evaluation.ErrorArray(x, "d"), ERRORS),
    "ErrorArray undefined": (lambda x: evaluation.ErrorArray(ERRORS, "d", undefined=x), np.zeros(20, bool)),
    "CumulativeError.__call__ threshold": (lambda x: CURVE(x), np.array([0.1, 0.2])),
    "Report.group_table labels": (lambda x: REPORT.group_table(x), np.arange(12) % 3),
    "Report.bin_table values": (lambda x: REPORT.bin_table(x, [0, 0.5, 1]), np.linspace(0, 1, 12)),
    "Protocol.prepare target": (lambda x: RULES.prepare(x, FACES), FACES),
    "Protocol.prepare prediction": (lambda x: CROPPED.prepare(FACES, x), FACES),
    "Protocol.errors target": (lambda x: CROPPED.errors(x, FACES + 1), FACES),
    "Protocol.errors prediction": (lambda x: RULES.errors(FACES, x), FACES),
    "AlignedCrop.maps target": (lambda x: [f(FACES) for f in AlignedCrop(0.25).maps(x)], FACES),
    "LandmarkBoxCrop.maps target": (lambda x: [f(FACES) for f in LandmarkBoxCrop().maps(x)], FACES),
    "Subset.mask attributes": (lambda x: YAW.mask({"yaw": x}, 12), np.linspace(0, 90, 12)),
    "Camera.from_matrix matrix": (lambda x: Camera.from_matrix(x), CAMERA.matrix),
    "Camera.from_matrix distortion": (lambda x: Camera.from_matrix(CAMERA.matrix, distortion=x), np.zeros(5)),
    "Camera.from_image_size size": (lambda x: Camera.from_image_size(x), np.array([640, 480])),
    "Camera.from_fov size": (lambda x: Camera.from_fov(x, degrees=60.0), np.array([640, 480])),
    "Camera.crop size": (lambda x: CAMERA.crop(BOX, x), np.array([640, 480])),
    "FaceModel3D.fit weights": (lambda x: FaceModel3D.bundled().fit(SEEN, CAMERA, weights=x), ONES),
    "FaceModel3D.learn weights": (
        lambda x: FaceModel3D.learn(np.stack([HEAD, 1.1 * HEAD + RING.mean(), HEAD[::-1]]), n_components=1, weights=x),
        ONES,
    ),
    "WeakPerspective scale": (lambda x: WeakPerspective(x, VIEWS.rotation, VIEWS.translation), np.ones(3)),
    "ASMFitter.starts boxes": (lambda x: search().starts(x), BOX),
    "BoxConvention center": (lambda x: sm.boxes.BoxConvention("a", x, (1.0, 1.0)), np.array([0.5, 0.5])),
}
KEEPS_ORDER = ("Report.group_table labels",)  # of any kind: text, dates


def networks():
    """Return the doors of what needs torch."""
    import torch

    from asmnet import ASMProjection, LandmarkDataset, Preprocessing
    from asmnet.augmentation import crop_transform

    points = np.random.default_rng(0).uniform(2, 14, (3, 5, 2))
    pixels = np.zeros((3, 16, 16, 3), np.uint8)
    data = LandmarkDataset.from_arrays(pixels, points)
    form = Preprocessing(size=32)
    crops = crop_transform(torch.tensor([[0.0, 0.0, 4.0, 4.0]] * 3), margin=1.2)
    projection = ASMProjection(BASIS)
    turns = np.tile(np.eye(3), (3, 1, 1))

    def tensor(x):
        plain = type(x) is np.ndarray and x.dtype.kind in "fiub" and x.dtype.isnative
        return torch.tensor(np.ascontiguousarray(x)) if plain else x

    return {
        "LandmarkDataset.from_arrays images": (lambda x: LandmarkDataset.from_arrays(x, points).images, pixels),
        "LandmarkDataset.from_arrays landmarks": (lambda x: LandmarkDataset.from_arrays(pixels, x).boxes, points),
        "LandmarkDataset.source_landmarks landmarks": (lambda x: data.source_landmarks(x), points),
        "LandmarkDataset.take indices": (lambda x: data.take(x).landmarks, np.array([0, 2])),
        "LandmarkDataset.batch indices": (lambda x: data.batch(x, form).landmarks, np.array([0, 2])),
        "LandmarkDataset.batch boxes": (
            lambda x: data.batch([0, 1], form, boxes=x).landmarks,
            np.array([[0.0, 0.0, 15.0, 15.0]] * 2),
        ),
        "LandmarkDataset.with_asm project": (lambda x: data.with_asm(lambda _: x, form).asm_landmarks, points),
        "LandmarkDataset.with_companion landmarks": (lambda x: data.with_companion("a", x).companions["a"], points),
        "LandmarkDataset.with_rotations rotations": (lambda x: data.with_rotations(x).rotations, turns),
        "LandmarkDataset.with_depths depths": (lambda x: data.with_depths(x).depths, points[..., 0]),
        "CropTransform.to_pixels units": (lambda x: crops.to_pixels(tensor(x)), points),
        "CropTransform.to_units pixels": (lambda x: crops.to_units(tensor(x)), points),
        "CropTransform.turn rotations": (lambda x: crops.turn(tensor(x)), turns),
        "ASMProjection.coefficients shapes": (lambda x: projection.coefficients(tensor(x)), FACES.astype(np.float32)),
        "ASMProjection.forward shapes": (lambda x: projection(tensor(x)), FACES.astype(np.float32)),
    }


TENSORS = networks() if has_torch() else {}
NUMBERS = {name: door for name, door in METHODS.items() if name not in KEEPS_ORDER}


@pytest.mark.parametrize("door", NUMBERS)
def test_the_same_numbers_have_the_same_answer(door):
    assert_answers_alike(*METHODS[door])


@pytest.mark.parametrize("door", NUMBERS | TENSORS)
def test_what_is_no_array_of_numbers_is_refused_in_our_words(door):
    assert_refuses_what_is_no_array(*(METHODS | TENSORS)[door])


def odd(value):
    yield from strange(value)
    yield from misshapen(value)
    yield "a result", PROCRUSTES
    yield "ragged", [*value.tolist()[:-1], [0.0] * 7]
    yield "booleans", value > 0
    yield "negative", -value.astype(float)
    yield "small integers", np.abs(value).astype(np.uint8)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value", "ignore:underflow")
@pytest.mark.parametrize("door", METHODS | TENSORS)
def test_odd_numbers_are_answered_or_refused_in_our_words(door):
    call, value = (METHODS | TENSORS)[door]
    assert_answers_or_refuses(call, odd(value))


ROWS = [
    name
    for name, (call, value) in METHODS.items()
    if value.shape == FACES.shape and re.search("Similarity|PointErrors.correct|flip|maps|prepare", name)
]


@pytest.mark.parametrize("door", [*ROWS, "Box.clip coefficients", "Ellipsoid.clip coefficients"])
def test_a_bad_row_harms_no_other(door):
    call, value = METHODS[door]
    spoilt = value.copy()
    spoilt[0] = np.nan
    found = flat(call(spoilt))
    for part, right in zip(found, flat(call(value)), strict=True):
        if part.size % len(value) == 0:
            rest, wanted = (x.reshape(len(value), -1)[1:] for x in (part, right))
            np.testing.assert_allclose(rest, wanted, rtol=1e-9)


# --- indices ------------------------------------------------------------------------------------------------------

INDEXED = {
    "Similarity": (MANY, lambda part: part.translation),
    "ErrorArray": (ERROR, lambda part: part.values),
    "Pose": (POSES, lambda part: part.translation),
    "WeakPerspective": (VIEWS, lambda part: part.translation),
}


@pytest.mark.parametrize("kind", INDEXED)
def test_an_index_takes_rows_and_says_what_it_cannot_take(kind):
    thing, read = INDEXED[kind]
    n = len(thing)
    whole = read(thing)
    for index in (slice(1, 3), [0, 2], np.array([2, 0]), np.arange(n) == 1):
        np.testing.assert_array_equal(read(thing[index]), whole[index])
    for index in (n, "a", 1.5, [n], np.ones(n + 1, bool), {"a": 1}, np.array([1j]), [None]):
        with pytest.raises(IndexError, match="index: got") as caught:
            thing[index]
        assert f"({n},)" in str(caught.value)
    with pytest.raises(TypeError, match="index: got a masked array"):
        thing[np.ma.array([0, 1], mask=[False, True])]
    assert len(list(thing)) == n


def test_a_sample_that_is_not_there_is_named():
    assert SAMPLES[-1].name == "5"
    for index in (6, "a", None):
        with pytest.raises(IndexError, match=r"index: got .*within the shape \(6,\)"):
            SAMPLES[index]


# --- right values -------------------------------------------------------------------------------------------------


def test_nan_is_not_outside_a_limit():
    values = np.array([[np.nan, 1.0, 9.0], [0.0, 0.0, 1.0]])
    for limit in (sm.Box(3.0), sm.SoftBox(3.0)):
        assert limit.exceeds(values, WIDTHS).tolist() == [[False, False, True], [False, False, False]]
    assert not sm.Ellipsoid(3.0).exceeds(values, WIDTHS)[1].any()
    assert not sm.Ellipsoid(3.0).exceeds(values, WIDTHS)[0, 0]


@pytest.mark.parametrize("limit", [sm.Box(3.0), sm.SoftBox(3.0), sm.Ellipsoid(3.0)])
def test_the_spread_of_a_mode_is_known_and_the_size_of_a_draw_too(limit):
    for scale in ([1.0, np.nan, 1.0], [1.0, -1.0, 1.0], [1.0, np.inf, 1.0]):
        with pytest.raises(ValueError, match="scale: got NaN, infinity or a negative number"):
            limit.clip(SOME, scale)
    for size in (3, (3,), (3, 2, 1), (3, -1), (3, 1.5), "ab", None):
        with pytest.raises(ValueError, match="size: got"):
            limit.truncated_normal(np.random.default_rng(0), size)
    with pytest.raises(ValueError, match="rng: got"):
        limit.truncated_normal("a", (3, 2))
    assert limit.truncated_normal(np.random.default_rng(0), (3, 2)).shape == (3, 2)


def test_a_set_measured_by_a_protocol_is_paired_by_name(tmp_path):
    for face in range(3):
        sm.write_landmarks(tmp_path / f"{face}.pts", SAMPLES[face].landmarks)
    truth = datasets.load_landmarks(tmp_path, scheme="ibug68")
    assert float(RULES.errors(truth, truth.select([2, 0, 1])).values.max()) == 0
    assert float(RULES.errors(truth.shapes(), truth.select([2, 0, 1]).shapes()).values.min()) > 0.01


def test_a_weighted_mean_of_rows_needs_every_row():
    full = Combination("full", (("common", 1.0), ("challenging", 3.0)))
    assert full.mean({"common": 1.0, "challenging": 2.0}) == 1.75
    for values in ({"common": 1.0}, {"common": 1.0, "challenging": "2"}):
        with pytest.raises(ValueError, match="for 'challenging'; expected a number for each part"):
            full.mean(values)


REFUSED = {
    "identity": (lambda: sm.Similarity.identity(4), "n_dims: got 4; expected a whole number from 2 to 3"),
    "merge": (lambda: sm.ShapeStatistics.from_shapes(FACES).merge(FACES), "other: got ndarray; expected a ShapeStat"),
    "edges": (lambda: sm.LandmarkScheme("a", 5, edges=[0, 1, 1, 2]), r"edges: got .*\(4,\); expected pairs"),
    "edges between": (lambda: sm.LandmarkScheme("a", 5, edges=[[0.5, 1]]), "edges: got .*expected a list of indices"),
    "flip": (lambda: sm.IBUG68.flip(np.zeros((68, 4))), "got 4 coordinates per landmark; expected 2 or 3"),
    "anchors": (lambda: sm.IBUG68.anchor_points(np.zeros((68, 4)), "outer_eye_corners"), r"got .*\(68, 4\)"),
    "channels first": (lambda: SPLINE.warp_image(np.zeros((3, 40, 50))), r"image: got .*Try numpy.moveaxis\(image"),
    "worst": (lambda: REPORT.worst(-1), "k: got -1; expected a whole number of at least 0"),
    "scaled": (lambda: evaluation.Interval(1.0, 0.5, 2.0).scaled("2"), "factor: got '2'; expected"),
    "pose @ points": (lambda: POSE @ HEAD, "expected a Pose to compose with; points go in brackets"),
    "euler": (lambda: POSE.euler("XXY"), "sequence: got 'XXY'; expected three axes"),
    "infinite view": (lambda: WeakPerspective(np.inf, Rotation.identity(), [0, 0]), "scale: got infinity"),
    "one face": (lambda: AlignedCrop(0.25).maps(FACES[0]), r"target: got shape \(68, 2\).*try target\[None\]"),
    "flags": (lambda: evaluation.ErrorArray([0.1], "d", failed=[1.0]), "failed: got float64"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_has_no_answer_is_refused_in_our_words(kind):
    call, words = REFUSED[kind]
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        call()
    assert complaint(caught.value) is None


# --- none is left out -----------------------------------------------------------------------------------------------

PACKAGES = ("shape_models", "pose", "evaluation", *(["asmnet"] if has_torch() else []))
ARRAYS = re.compile(r"ArrayLike|ndarray|\bArray\b|Tensor|ShapesLike|MapsLike")
ELSEWHERE = re.compile(
    # Fits and searches, in the files of their parts: too slow for every kind of array.
    r"(ASMFitter|PartsFitter|AppearanceModel)\.(fit|fit_detection|predict|confidence|texture|synthesize) |"
    # Called by a fitter, with what it has made.
    r"(\w*Evidence|HeatMaps|Patches|Profiles)\.(train|from_parts) |View\.|Detector\.__call__ |"
    # Networks and their parts, in test_asmnet_doors.py.
    r"\w+\.forward (images|x)$|ASMNet.taps |IntegralCriterion\.|Preprocessing.normalise |Prediction.rows |"
    r"CropTransform.rows |Predictor.findings |Uncertainty.learn "
)


def public_classes():
    for name in PACKAGES:
        package = importlib.import_module(name)
        found = [package.__name__, *(f"{name}.{m.name}" for m in pkgutil.iter_modules(package.__path__))]
        for module in map(importlib.import_module, (m for m in found if not m.split(".")[-1].startswith("_"))):
            things = (getattr(module, public) for public in getattr(module, "__all__", ()))
            yield from (thing for thing in things if inspect.isclass(thing))


def arrays_of(cls):
    """Yield the name of each public method and of each array it takes, and whether that is its first."""
    for owner in cls.__mro__:
        for method, function in vars(owner).items() if owner.__module__.startswith(PACKAGES) else ():
            function = getattr(function, "__func__", function)
            if inspect.isfunction(function) and (method == "__call__" or not method.startswith("_")):
                names = [
                    p.name for p in inspect.signature(function).parameters.values() if ARRAYS.search(str(p.annotation))
                ]
                yield from ((method, name, name == names[0]) for name in names)


def test_no_method_is_left_out():
    known = {*DOORS, *MODELS, *METHODS, *TENSORS}
    missing = set()
    n_methods = 0
    for cls in public_classes():
        for method, argument, first in arrays_of(cls):
            n_methods += 1
            names = {f"{owner.__name__}.{method}" for owner in cls.__mro__}
            if cls is sm.Limit or any(ELSEWHERE.match(f"{name} {argument}") for name in names):
                continue
            if not any(f"{name} {argument}" in known or (first and name in known) for name in names):
                missing.add(f"{cls.__name__}.{method} {argument}")
    assert not missing
    assert n_methods > 100
