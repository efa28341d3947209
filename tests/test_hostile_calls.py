"""Every public function and every array it takes, handed what arrays of users are: it answers the same for the same
numbers, and else says in the library's own words what it does not take.

The doors of the models and metrics are in `test_shape_models_arrays.py` and `test_evaluation_inputs.py`; this file has
the others, and the test that none is left out.
"""

import importlib
import inspect
import re
import sys
import traceback
import types
from pathlib import Path

import numpy as np
import pytest
from no_torch import has_torch
from scipy.spatial.transform import Rotation
from test_evaluation_inputs import DOORS as METRICS
from test_shape_models_arrays import ARGUMENTS as MODELS

import evaluation
import shape_models as sm
from pose import (
    Camera,
    FaceModel3D,
    Pose,
    WeakPerspective,
    conventions,
    estimate_head_pose,
    project_points,
    reference,
    solve_pnp,
    solve_pnp_ransac,
    solve_weak_perspective,
)
from shape_models import boxes, contours, images, plotting
from shape_models.search import is_face, refine

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = tuple(str(ROOT / name) for name in ("shape_models", "pose", "evaluation", "asmnet"))
FACES = sm.make_faces(12, rng=0)
PIXELS = (FACES - FACES.min()) * (140 / np.ptp(FACES)) + 50.0
TIGHT = np.concatenate([PIXELS.min(axis=1), PIXELS.max(axis=1)], axis=1)
MODEL = sm.AlignedASM().fit(FACES)
SPLINE = sm.ThinPlateSpline.fit(FACES[0], FACES[1])
ONES = np.ones(68)
BOX = np.array([60.0, 70.0, 200.0, 210.0])
BOXES = BOX + np.array([[0.0], [5.0], [30.0]])
RING = np.stack([np.cos(np.linspace(0, 6, 40)), np.sin(np.linspace(0, 6, 40))], axis=1)
DISC = np.hypot(*np.mgrid[-12:13, -12:13]) < 8
CAMERA = Camera.from_image_size((640, 480))
HEAD = np.array(reference.HEAD_IBUG68)
HEADS = HEAD + np.random.default_rng(0).normal(size=(4, 68, 3))
POSE = Pose(conventions.read([20.0, -5.0, 3.0], "HopeNet"), [10.0, 5.0, 600.0])
SEEN = project_points(HEAD, POSE, CAMERA)
VIEW = WeakPerspective(1.0, Rotation.identity(), [0.0, 0.0])
IMAGE = np.random.default_rng(0).integers(0, 255, (240, 256)).astype(np.uint8)
NOISY = np.stack([SEEN, SEEN]) + np.random.default_rng(0).normal(size=(2, 68, 2))


def search():
    return sm.load_model("search68")


DOORS = {
    "affine_procrustes shapes": (lambda x: sm.affine_procrustes(x), FACES),
    "bending_energy_matrix reference": (lambda x: sm.bending_energy_matrix(x), FACES[0]),
    "centroid_size shapes": (lambda x: sm.centroid_size(x), FACES),
    "condition points": (lambda x: sm.condition(MODEL, x, 0.01), FACES[0]),
    "condition noise": (lambda x: sm.condition(MODEL, FACES[0], x), 0.1 * ONES),
    "convert shapes": (lambda x: sm.convert(x, "ibug68", "cofw29"), FACES),
    "curve_length points": (lambda x: sm.curve_length(x), RING),
    "find_outliers shapes": (lambda x: sm.find_outliers(x), FACES),
    "fit_shape points": (lambda x: sm.fit_shape(MODEL, x), PIXELS),
    "fit_shape confidence": (lambda x: sm.fit_shape(MODEL, PIXELS, confidence=x), 0.5 * ONES),
    "marginal landmarks": (lambda x: sm.marginal(MODEL, x), np.arange(20)),
    "resample_curve points": (lambda x: sm.resample_curve(x, 9), RING),
    "symmetry shapes": (lambda x: sm.symmetry(x, sm.IBUG68.mirror), FACES),
    "symmetry mirror": (lambda x: sm.symmetry(FACES, x), sm.IBUG68.mirror),
    "ThinPlateSpline.fit source": (lambda x: sm.ThinPlateSpline.fit(x, FACES[1]), FACES[0]),
    "ThinPlateSpline.fit target": (lambda x: sm.ThinPlateSpline.fit(FACES[0], x), FACES[1]),
    "ThinPlateSpline.__call__ points": (lambda x: SPLINE(x), RING),
    "ThinPlateSpline.jacobian points": (lambda x: SPLINE.jacobian(x), RING),
    "ThinPlateSpline.inverse points": (lambda x: SPLINE.inverse(x), FACES[1]),
    "LandmarkScheme.anchor_points shapes": (lambda x: sm.IBUG68.anchor_points(x, "outer_eye_corners"), FACES),
    "check_boxes boxes": (lambda x: boxes.check_boxes(x), BOXES),
    "convert boxes": (lambda x: boxes.convert(x, "dlib-hog", "landmarks"), BOXES),
    "overlap boxes": (lambda x: boxes.overlap(x, BOXES), BOXES),
    "overlap others": (lambda x: boxes.overlap(BOXES, x), BOXES),
    "suppress boxes": (lambda x: boxes.suppress(x), BOXES),
    "suppress scores": (lambda x: boxes.suppress(BOXES, x), np.arange(3.0)),
    "learn_box_convention detected": (lambda x: boxes.learn_box_convention(x, PIXELS), TIGHT),
    "learn_box_convention landmarks": (lambda x: boxes.learn_box_convention(TIGHT, x), PIXELS),
    "check_inside landmarks": (lambda x: images.check_inside(x, (256, 240)), PIXELS[0]),
    "check_boxes_inside boxes": (lambda x: images.check_boxes_inside(x, (256, 240)), BOXES),
    "outline_of_mask mask": (lambda x: contours.outline_of_mask(x), DISC),
    "solve_pnp object_points": (lambda x: solve_pnp(x, SEEN, CAMERA), HEAD),
    "solve_pnp image_points": (lambda x: solve_pnp(HEAD, x, CAMERA), SEEN),
    "solve_pnp weights": (lambda x: solve_pnp(HEAD, SEEN, CAMERA, weights=x), ONES),
    "solve_pnp_ransac image_points": (lambda x: solve_pnp_ransac(HEAD, x, CAMERA), SEEN),
    "solve_weak_perspective object_points": (lambda x: solve_weak_perspective(x, SEEN), HEAD),
    "solve_weak_perspective image_points": (lambda x: solve_weak_perspective(HEAD, x), SEEN),
    "solve_weak_perspective weights": (lambda x: solve_weak_perspective(HEAD, SEEN, weights=x), ONES),
    "estimate_head_pose landmarks": (lambda x: estimate_head_pose(x, CAMERA), SEEN),
    "project_points object_points": (lambda x: project_points(x, POSE, CAMERA), HEAD),
    "FaceModel3D.fit landmarks": (lambda x: FaceModel3D.bundled().fit(x, CAMERA), SEEN),
    "FaceModel3D.learn shapes": (lambda x: FaceModel3D.learn(x, n_components=1), HEADS),
    "Pose.from_matrix matrix": (lambda x: Pose.from_matrix(x), np.eye(4)),
    "Pose.identity translation": (lambda x: Pose.identity(x), np.array([0.0, 0.0, 600.0])),
    "Pose.__call__ points": (lambda x: POSE(x), HEAD),
    "Pose translation": (lambda x: Pose(Rotation.identity(), x), np.array([0.0, 0.0, 5.0])),
    "WeakPerspective.__call__ points": (lambda x: VIEW(x), HEAD),
    "Camera.project points": (lambda x: CAMERA.project(x), HEAD + np.array([0, 0, 900.0])),
    "Camera.normalize pixels": (lambda x: CAMERA.normalize(x), SEEN),
    "Camera.crop box": (lambda x: CAMERA.crop(x, 10), BOX),
    "Camera focal_length": (lambda x: Camera(x, (0, 0)), np.array([500.0, 500.0])),
    "Camera principal_point": (lambda x: Camera(500.0, x), np.array([320.0, 240.0])),
    "conventions.convert values": (lambda x: conventions.convert(x, "HopeNet", "3DDFA"), np.array([[10.0, 20.0, 5.0]])),
    "conventions.from_matrix matrix": (lambda x: conventions.from_matrix(x, "MediaPipe"), np.eye(3)),
    "wrap_degrees angles": (lambda x: conventions.wrap_degrees(x), np.array([10.0, 200.0])),
    "derive_reference shapes": (lambda x: reference.derive_reference(x), np.stack([HEAD, 1.01 * HEAD])),
    "derive_weights landmarks": (lambda x: reference.derive_weights(x, CAMERA), NOISY),
    "ASMFitter.predict boxes": (lambda x: search().predict(IMAGE, boxes=x), BOX),
    "ASMFitter.confidence shapes": (lambda x: search().confidence(IMAGE, x), PIXELS[0]),
    "is_face boxes": (lambda x: is_face(IMAGE, x), BOX),
    "refine points": (lambda x: refine(IMAGE, x), PIXELS[0]),
}
SLOW = ("ASMFitter.predict", "refine", "is_face", "derive_weights", "solve_pnp_ransac", "FaceModel3D.fit")


def same(value):
    """Return the same numbers as arrays of other kinds."""
    frozen = value.copy()
    frozen.flags.writeable = False
    yield "read-only", frozen
    yield "Fortran order", np.asfortranarray(value)
    yield "strided", np.repeat(value, 2, axis=0)[::2]
    yield "list", value.tolist()
    if value.dtype.kind != "b":
        yield "big-endian", value.astype(value.dtype.newbyteorder(">"))
    if has_torch():
        import torch

        yield "tensor", torch.tensor(value)


def wrong(value):
    """Return what holds no numbers, or hides some."""
    yield "masked", np.ma.array(value, mask=np.arange(value.size).reshape(value.shape) == 0)
    yield "complex", value + 1j
    yield "objects", np.array([None, "a", {}], dtype=object)
    yield "strings", value.astype(str)
    yield "text", "abc"
    yield "mapping", {"points": value}
    yield "dates", np.zeros(value.shape, "M8[s]")
    if has_torch():
        import torch

        yield "meta tensor", torch.tensor(value).to("meta")
        yield "sparse tensor", torch.tensor(value).to_sparse()


def strange(value):
    """Return numbers that may have an answer or none."""
    yield "empty", value[:0]
    yield "empty list", []
    yield "None", None
    yield "zero-d", np.array(1.0)
    yield "flat", value.ravel()
    yield "first", value[:1]
    yield "deep", np.broadcast_to(value, (2, 2, 2, *value.shape))
    if value.dtype.kind == "f":
        yield "NaN", np.full(value.shape, np.nan)
        yield "infinite", np.full(value.shape, np.inf)
        yield "one infinite", np.where(np.arange(value.size).reshape(value.shape) == 1, -np.inf, value)
        yield "coincident", np.ones_like(value)
        yield "half", value.astype(np.float16)
        if np.abs(value).max() > 0:
            yield "huge", value * (1e160 / np.abs(value).max())
            yield "tiny", value * (1e-200 / np.abs(value).max())
        if has_torch():
            import torch

            yield "with a gradient", torch.tensor(value, requires_grad=True)


def flat(thing, depth=0):
    """Return all numbers of an answer in a row."""
    if hasattr(thing, "as_matrix"):
        thing = thing.as_matrix()
    if hasattr(thing, "detach"):
        thing = thing.detach().double().numpy()
    if isinstance(thing, bool | int | float | np.ndarray | np.generic):
        array = np.asarray(thing)
        return [array.astype(float).ravel()] if array.dtype.kind in "biuf" else []
    if isinstance(thing, dict | types.MappingProxyType):
        return [part for value in thing.values() for part in flat(value, depth + 1)]
    if isinstance(thing, list | tuple):
        return [part for value in thing for part in flat(value, depth + 1)]
    if hasattr(thing, "__dict__") and depth < 4:
        return [part for value in vars(thing).values() for part in flat(value, depth + 1)]
    return []


def arguments(error):
    """Return the names of all arguments of what was called; none where it hands others on."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        if code.co_filename.startswith(PACKAGES) and code.co_name != "wrapper":
            takes = set(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
            if code.co_flags & inspect.CO_VARKEYWORDS:
                return set()
            return takes | set(inspect.signature(type(frame.f_locals["self"])).parameters if "self" in takes else ())
    return set()


def foreign_arguments(error):
    """Return the arguments that a message recommends and that what was called does not have."""
    hint, other = "".join(re.findall(r"[Tt]ry .*", str(error), re.DOTALL)), re.compile(r"\w*\([^()]*\)")
    while other.search(hint):  # calls of something else
        hint = other.sub("", hint)
    takes = arguments(error)
    return [name for name in re.findall(r"(?<![\w.])([a-z_]\w*)=(?!=)", hint) if takes and name not in takes]


def complaint(error):
    """Return what is wrong with an error: it must be the library's own, a ValueError or TypeError."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    own = last.filename.startswith(PACKAGES) and not isinstance(error, np.linalg.LinAlgError)
    if own and isinstance(error, ValueError | TypeError) and str(error):
        foreign = foreign_arguments(error)
        return f"{error} (it names {', '.join(foreign)}, which the call cannot take)" if foreign else None
    return f"{type(error).__name__}: {error} (at {Path(last.filename).name}:{last.lineno})"


def assert_answers_alike(call, value):
    """The same numbers in other arrays have the same answer."""
    expected = np.concatenate([*flat(call(value)), np.zeros(0)])
    for kind, given in same(value):
        found = np.concatenate([*flat(call(given)), np.zeros(0)])
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8, err_msg=kind)


def assert_refuses_what_is_no_array(call, value):
    """What holds no numbers is refused in our words; a mask as numbers, since it may hold booleans."""
    for kind, given in wrong(value.astype(int) if value.dtype == bool else value):
        with pytest.raises((ValueError, TypeError)) as caught:
            call(given)
        assert complaint(caught.value) is None, f"{kind}: {complaint(caught.value)}"


def assert_answers_or_refuses(call, kinds):
    """Each of some arrays, (kind, given), has an answer or an error in our words."""
    for kind, given in kinds:
        error = None
        try:
            call(given)
        except Exception as raised:
            error = raised
        assert error is None or complaint(error) is None, f"{kind}: {complaint(error)}"


@pytest.mark.parametrize("door", [door for door in DOORS if not door.startswith(SLOW)])
def test_the_same_numbers_have_the_same_answer(door):
    assert_answers_alike(*DOORS[door])


@pytest.mark.parametrize("door", DOORS)
def test_what_is_no_array_of_numbers_is_refused_in_our_words(door):
    assert_refuses_what_is_no_array(*DOORS[door])


def misshapen(value):
    """Return numbers of other counts and shapes."""
    yield "flat", value.ravel()
    yield "deep", np.broadcast_to(value, (2, 2, 2, *value.shape))
    yield "shorter", value[:-1]
    yield "longer", np.concatenate([value, value[:1]])
    yield "narrow", value[..., :-1]
    yield "wide", np.concatenate([value, value[..., :1]], axis=-1)


ANYTHING = ("groups", "labels")  # of faces, which may have names of any kind
FIGURES = {
    "plot_clip shape": (lambda x: plotting.plot_clip(MODEL, x), FACES[0]),
    "plot_deformation reference": (lambda x: plotting.plot_deformation(x, FACES[1]), FACES[0]),
    "plot_deformation target": (lambda x: plotting.plot_deformation(FACES[0], x), FACES[1]),
    "plot_shape shape": (lambda x: plotting.plot_shape(x), FACES[0]),
    "plot_solid shape": (lambda x: plotting.plot_solid(x), HEAD),
}
NUMBERS = DOORS | FIGURES | {name: door[::-1] for name, door in METRICS.items() if not name.endswith(ANYTHING)}


@pytest.mark.parametrize("door", NUMBERS)
def test_strange_numbers_are_answered_or_refused_in_our_words(door):
    """A warning of NumPy is an error here, so that nothing overflows in silence."""
    call, value = NUMBERS[door]
    assert_answers_or_refuses(call, strange(value))


COUNTED = MODELS | {
    door: call for door, call in NUMBERS.items() if not door.startswith(SLOW) or door == "refine points"
}


@pytest.mark.parametrize("door", COUNTED)
def test_a_message_begins_with_an_argument_of_what_was_called(door):
    call, value = COUNTED[door]
    for kind, given in misshapen(value):
        error = None
        try:
            call(given)
        except (ValueError, TypeError) as raised:
            error = raised
        takes = set() if error is None else arguments(error)
        assert not takes or re.match(r"\w*", str(error))[0] in takes, f"{kind}: {error}"


# --- options ------------------------------------------------------------------------------------------------------

ERRORS = np.linspace(0.01, 0.2, 20)
JAW = PIXELS[0][:17]
FLAGS = {
    "generalized_procrustes scaling": lambda x: sm.generalized_procrustes(FACES, scaling=x),
    "generalized_procrustes reflection": lambda x: sm.generalized_procrustes(FACES, reflection=x),
    "GeneralizedProcrustes scaling": lambda x: sm.GeneralizedProcrustes(scaling=x).fit(FACES),
    "GeneralizedProcrustes tangent": lambda x: sm.GeneralizedProcrustes(tangent=x).fit(FACES),
    "estimate_similarity scaling": lambda x: sm.estimate_similarity(FACES[0], FACES[1], scaling=x),
    "estimate_similarity reflection": lambda x: sm.estimate_similarity(FACES[0], FACES[1], reflection=x),
    "fit_shape prior": lambda x: sm.fit_shape(MODEL, PIXELS, prior=x),
    "sample truncated": lambda x: MODEL.sample(2, rng=0, truncated=x),
    "complete joint": lambda x: MODEL.asm_.basis_.complete(FACES[0], joint=x),
    "resample_curve closed": lambda x: sm.resample_curve(JAW, 9, closed=x),
    "curve_length closed": lambda x: sm.curve_length(JAW, closed=x),
    "Curve closed": lambda x: sm.Curve((0, 1, 2, 3), closed=x),
    "Sliding rescale": lambda x: sm.Sliding([sm.Curve((0, 1, 2))], rescale=x),
    "outline_of_mask repair": lambda x: contours.outline_of_mask(DISC, repair=x),
    "contour_distance closed": lambda x: evaluation.contour_distance(JAW, JAW + 1, closed=x),
    "point_to_contour closed": lambda x: evaluation.point_to_contour(JAW, PIXELS[0], closed=x),
    "geodesic_error degrees": lambda x: evaluation.geodesic_error(np.eye(3), np.eye(3), degrees=x),
    "euler_mae degrees": lambda x: evaluation.euler_mae(np.eye(3), np.eye(3), convention="a", degrees=x),
    "solve_weak_perspective refine": lambda x: solve_weak_perspective(HEAD, SEEN, refine=x),
}


@pytest.mark.parametrize("flag", FLAGS)
def test_a_text_is_no_flag(flag):
    """The word "no" counts as true in Python."""
    for given in ("no", "False", "", 2, 0.5, [True]):
        with pytest.raises(ValueError, match=f"{flag.split()[-1]}: got .*; expected True or False"):
            FLAGS[flag](given)
    for given in (np.True_, True, 1):
        FLAGS[flag](given)


COUNTS = {
    "generalized_procrustes max_iter": lambda x: sm.generalized_procrustes(FACES, max_iter=x),
    "solve_pnp max_iter": lambda x: solve_pnp(HEAD, SEEN, CAMERA, max_iter=x),
    "solve_weak_perspective max_iter": lambda x: solve_weak_perspective(HEAD, SEEN, max_iter=x),
    "solve_pnp_ransac max_trials": lambda x: solve_pnp_ransac(HEAD, SEEN, CAMERA, max_trials=x),
    "ASM max_iter": lambda x: sm.ASM(max_iter=x).fit(FACES),
    "ASM.sample n_samples": lambda x: MODEL.sample(x),
    "make_faces n_samples": lambda x: sm.make_faces(x),
    "resample_curve n": lambda x: sm.resample_curve(JAW, x),
    "auc_threshold_weighted n_thresholds": lambda x: evaluation.auc_threshold_weighted(ERRORS, n_thresholds=x),
    "bootstrap_interval n_resamples": lambda x: evaluation.bootstrap_interval(ERRORS, n_resamples=x),
    "leave_one_out n_folds": lambda x: sm.leave_one_out(FACES, 2, n_folds=x),
}


@pytest.mark.parametrize("count", COUNTS)
def test_a_count_is_a_whole_number(count):
    for given in (2.5, -1, np.nan, np.inf, "9", True, [3]):
        with pytest.raises((ValueError, TypeError)) as caught:
            COUNTS[count](given)
        assert complaint(caught.value) is None, f"{given!r}: {complaint(caught.value)}"


OPTIONS = {
    "solve_pnp tol": lambda x: solve_pnp(HEAD, SEEN, CAMERA, tol=x),
    "solve_pnp noise": lambda x: solve_pnp(HEAD, SEEN, CAMERA, noise=x),
    "solve_pnp loss_scale": lambda x: solve_pnp(HEAD, SEEN, CAMERA, loss="huber", loss_scale=x),
    "solve_pnp_ransac threshold": lambda x: solve_pnp_ransac(HEAD, SEEN, CAMERA, threshold=x),
    "solve_pnp_ransac confidence": lambda x: solve_pnp_ransac(HEAD, SEEN, CAMERA, confidence=x),
    "solve_weak_perspective tol": lambda x: solve_weak_perspective(HEAD, SEEN, tol=x),
    "FaceModel3D.fit tol": lambda x: FaceModel3D.bundled().fit(SEEN, CAMERA, tol=x),
    "Camera.from_fov degrees": lambda x: Camera.from_fov((640, 480), degrees=x),
    "bootstrap_interval confidence": lambda x: evaluation.bootstrap_interval(ERRORS, confidence=x),
    "wilson_interval count": lambda x: evaluation.wilson_interval(x, 3),
    "wilson_interval effective_n": lambda x: evaluation.wilson_interval(1, 3, effective_n=x),
    "auc_grid step": lambda x: evaluation.auc_grid(ERRORS, threshold=0.1, step=x),
    "auc threshold": lambda x: evaluation.auc(ERRORS, threshold=x),
    "euler_mae limit": lambda x: evaluation.euler_mae(np.eye(3), np.eye(3), convention="a", limit=x),
    "suppress max_overlap": lambda x: boxes.suppress(BOXES, max_overlap=x),
    "generalized_procrustes tol": lambda x: sm.generalized_procrustes(FACES, tol=x),
    "advise_n_components quantile": lambda x: sm.advise_n_components(FACES, quantile=x),
    "fit_with_kernel length": lambda x: sm.fit_with_kernel(FACES, length=x),
    "ThinPlateSpline.fit smoothing": lambda x: sm.ThinPlateSpline.fit(FACES[0], FACES[1], smoothing=x),
    "LandmarkScheme.flip width": lambda x: sm.IBUG68.flip(FACES[0], width=x),
    "Sliding tol": lambda x: sm.Sliding([sm.Curve((0, 1, 2))], tol=x),
    "correspond stretch": lambda x: contours.correspond([JAW, JAW + 1], 8, stretch=x),
}


@pytest.mark.parametrize("number", OPTIONS)
def test_a_text_is_no_number(number):
    for given in ("0.5", [0.5], True, np.nan, -1.0):
        with pytest.raises(ValueError, match=f"{number.split()[-1]}: got .*; expected"):
            OPTIONS[number](given)


SEEDS = {
    "ASM.sample": lambda x: MODEL.sample(3, rng=x),
    "ShapeBasis.sample": lambda x: MODEL.asm_.basis_.sample(3, rng=x),
    "make_faces": lambda x: sm.make_faces(3, rng=x),
    "specificity": lambda x: sm.specificity(FACES, n_samples=5, rng=x).value,
    "solve_pnp_ransac": lambda x: solve_pnp_ransac(HEAD, SEEN, CAMERA, rng=x).inliers,
    "bootstrap_interval": lambda x: evaluation.bootstrap_interval(ERRORS, n_resamples=20, rng=x).low,
    "evaluate": lambda x: evaluation.evaluate(PIXELS, PIXELS + 1, "300w", n_resamples=20, rng=x).errors.values,
}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_is_a_whole_number_or_a_generator(seed):
    call = SEEDS[seed]
    for given in ("a", -1, 1.5, {}):
        with pytest.raises(ValueError, match=r"rng: got .*; expected a whole number, a numpy Generator or None"):
            call(given)
    np.testing.assert_allclose(call(5), call(np.random.default_rng(5)), rtol=1e-9)


KINDS = {  # another kind of thing, and what is tried instead
    "AlignedASM number": (lambda: sm.AlignedASM(0.95).fit(FACES), r"asm: got 0.95; .* Try asm=ASM\(\)"),
    "AlignedASM class": (lambda: sm.AlignedASM(sm.ASM).fit(FACES), r"asm: got ASM; .* Try asm=ASM\(\)"),
    "AlignedASM basis": (lambda: sm.AlignedASM(MODEL.asm_.basis_).fit(FACES), "asm: got ShapeBasis"),
    "AlignedASM aligned": (lambda: sm.AlignedASM(sm.AlignedASM()).fit(FACES), "asm: got AlignedASM"),
    "AlignedASM alignment": (lambda: sm.AlignedASM(alignment=sm.ASM()).fit(FACES), "alignment: got ASM"),
    "fit_statistics": (lambda: sm.ASM().fit_statistics(FACES), "statistics: got ndarray"),
    "fit_shape start": (lambda: sm.fit_shape(MODEL, PIXELS, start=np.eye(3)), "Try Similarity.from_matrix"),
    "Similarity @": (lambda: MODEL.align(FACES)[1] @ FACES, "points go in brackets"),
    "write_table model": (lambda: sm.write_table("a.csv", FACES, "face68"), "model: got str"),
    "estimate_head_pose model": (lambda: estimate_head_pose(SEEN, CAMERA, model="face"), r"FaceModel3D.bundled\(\)"),
    "FaceModel3D basis": (lambda: FaceModel3D(None), "basis: got NoneType"),
    "project_points camera": (lambda: project_points(HEAD, POSE, None), "camera: got NoneType"),
    "load_landmarks path": (lambda: sm.read_landmarks(None), "path: got None; expected the path of a file"),
    "write_landmarks turned round": (
        lambda: sm.write_landmarks(FACES[0], "a.pts"),
        r"path: got an array of shape \(68, 2\); .* first argument",
    ),
    "save_model path": (lambda: sm.save_model(MODEL, None), "path: got None; expected the path of a file"),
    "save_model turned round": (lambda: sm.save_model("a.npz", MODEL), "got a str; expected a ShapeBasis"),
    "LandmarkScheme name": (lambda: sm.LandmarkScheme(None, 2), "name: got None"),
    "compare names": (lambda: evaluation.compare(ERRORS, ERRORS, names="ab"), "names: got 'ab'"),
    "auc threshold": (lambda: evaluation.auc(ERRORS, threshold="0.08"), "threshold: got 0.08; expected a positive"),
    "failure_rate threshold": (lambda: evaluation.failure_rate(ERRORS, threshold=True), "threshold: got True"),
    "centroid_size nothing": (lambda: sm.centroid_size(np.zeros((0, 2))), "landmark"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_of_thing_is_refused_in_our_words(kind):
    call, words = KINDS[kind]
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        call()
    assert complaint(caught.value) is None


# --- none is left out -----------------------------------------------------------------------------------------------

MODULES = (
    "shape_models",
    "pose",
    "evaluation",
    "shape_models.boxes",
    "shape_models.images",
    "shape_models.contours",
    "shape_models.curves",
    "shape_models.morphometrics",
)
ELSEWHERE = {  # tested in the file of their part
    "attach_curves",
    "fit_with_kernel",
    "landmarks_of_masks",
    "read_masks",
    "read_image",
    "read_values",
    "warp_image",
    "write_table",
    "group_table",
    "bin_table",
    "fit_transform",
}


def test_no_array_is_left_out():
    doors = " ".join([*DOORS, *METRICS, *MODELS]).replace(",", " ").split()
    known = {part for door in doors for part in (door, door.split(".")[-1])} | ELSEWHERE
    missing = set()
    for name in MODULES:
        module = importlib.import_module(name)
        for public in module.__all__:
            thing = getattr(module, public)
            methods = vars(thing) if inspect.isclass(thing) else {public: thing}
            for method, function in methods.items():
                function = getattr(function, "__func__", function)
                if not inspect.isfunction(function) or method.startswith("_"):
                    continue
                if any("ArrayLike" in str(p.annotation) for p in inspect.signature(function).parameters.values()):
                    if method not in known:
                        missing.add(f"{name}.{public}.{method}")
    assert not missing
    assert sys.modules["shape_models"] is sm
