"""What comes in through the doors of `pose`, and what its arrays may be handed to."""

import importlib
import pkgutil
import time

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

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

CAMERA = Camera.from_image_size((640, 480))
HEAD = reference.HEAD_IBUG68
POSE = Pose(conventions.read([20.0, -5.0, 3.0], "HopeNet"), [10.0, 5.0, 600.0])
PIXELS = project_points(HEAD, POSE, CAMERA)


def masked(array, *where):
    out = np.ma.array(np.array(array, dtype=float), mask=False)
    out[where or 0] = np.ma.masked
    return out


def listed(array, *where):
    whole = masked(array, *where)
    return [whole, whole] if whole.ndim < 2 else list(whole)


SOLVERS = {
    "solve_pnp": lambda points, **options: solve_pnp(HEAD, points, CAMERA, **options),
    "solve_pnp, object": lambda points, **options: solve_pnp(
        points if np.shape(points)[-1] == 3 else HEAD, PIXELS, CAMERA, **options
    ),
    "solve_pnp_ransac": lambda points: solve_pnp_ransac(HEAD, points, CAMERA),
    "solve_weak_perspective": lambda points, **options: solve_weak_perspective(HEAD, points, **options),
    "estimate_head_pose": lambda points, **options: estimate_head_pose(points, CAMERA, **options),
    "FaceModel3D.fit": lambda points, **options: FaceModel3D.bundled().fit(points, CAMERA, **options),
}


@pytest.mark.parametrize("make", [masked, listed])
@pytest.mark.parametrize("name", SOLVERS)
def test_points_under_a_mask_are_refused(name, make):
    value = HEAD if "object" in name else PIXELS
    with pytest.raises(TypeError, match="masked"):
        SOLVERS[name](make(value, 3, 1))


@pytest.mark.parametrize("name", [name for name in SOLVERS if "ransac" not in name and "object" not in name])
def test_weights_under_a_mask_are_refused(name):
    for weights in (masked(np.ones(68), 3), [np.ma.array(np.ones(68), mask=True)]):
        with pytest.raises(TypeError, match="weights: got a masked"):
            SOLVERS[name](PIXELS, weights=weights)


@pytest.mark.parametrize(
    "call",
    [
        lambda m: conventions.convert(m([10.0, 20.0, 5.0], 1), "HopeNet", "3DDFA"),
        lambda m: conventions.read(m([10.0, 20.0, 5.0], 1), "OpenCV"),
        lambda m: conventions.from_matrix(m(np.eye(3), 1, 1), "MediaPipe"),
        lambda m: conventions.wrap_degrees(m([10.0, 20.0, 5.0], 1)),
        lambda m: Pose.from_matrix(m(np.eye(4), 1, 1)),
        lambda m: Pose.identity(m([0.0, 0, 5], 1)),
        lambda m: WeakPerspective(1.0, Rotation.identity(), m([0.0, 0], 1)),
        lambda m: WeakPerspective(m([1.0], 0), Rotation.identity(1), [0.0, 0]),
        lambda m: POSE(m(HEAD, 1, 1)),
        lambda m: WeakPerspective(1.0, Rotation.identity(), [0.0, 0])(m(HEAD, 1, 1)),
        lambda m: Camera(m([500.0, 500], 1), (0, 0)),
        lambda m: Camera(500.0, m([0.0, 0], 1)),
        lambda m: Camera(500.0, (0, 0), m(np.zeros(5), 1)),
        lambda m: Camera.from_matrix(m(CAMERA.matrix, 0, 0)),
        lambda m: CAMERA.crop(m([0.0, 0, 5, 5], 1), 10),
        lambda m: CAMERA.project(m(HEAD + np.array([0, 0, 900]), 1, 1)),
        lambda m: CAMERA.normalize(m(PIXELS, 1, 1)),
        lambda m: FaceModel3D(FaceModel3D.bundled().basis, weights=m(np.ones(68), 1)),
        lambda m: reference.derive_reference(m(np.stack([HEAD, HEAD]), 1, 1)),
        lambda m: reference.derive_weights(m(np.stack([PIXELS, PIXELS]), 1, 1), CAMERA),
        lambda m: reference.derive_weights(np.stack([PIXELS, PIXELS]), CAMERA, reference=m(HEAD, 1, 1)),
    ],
)
@pytest.mark.parametrize("make", [masked, listed])
def test_no_door_lets_a_masked_array_in(call, make):
    with pytest.raises(TypeError, match="masked"):
        call(make)


def test_the_layout_of_opencv():
    """cv2 writes n points as (n, 1, 2), and takes (n, 1, 3)."""
    expected = solve_pnp(HEAD, PIXELS, CAMERA)
    for objects, images in ((HEAD, PIXELS[:, None]), (HEAD[:, None], PIXELS[:, None]), (HEAD[:, None], PIXELS)):
        found = solve_pnp(objects, images, CAMERA)
        assert found.status == "ok"
        np.testing.assert_allclose(found.pose.as_matrix(), expected.pose.as_matrix(), rtol=0, atol=1e-6)
        assert solve_weak_perspective(objects, images).status == "ok"
        assert solve_pnp_ransac(objects, images, CAMERA).status == "ok"
    assert estimate_head_pose(PIXELS[:, None], CAMERA).status == "ok"
    assert FaceModel3D.bundled().fit(PIXELS[:, None], CAMERA).status == "ok"
    batch = solve_pnp(HEAD, np.stack([PIXELS, PIXELS])[:, :, None], CAMERA)
    assert batch.status.tolist() == ["ok", "ok"]


def exported_arrays():
    for package in ("shape_models", "pose", "evaluation", "asmnet"):
        root = pytest.importorskip(package)
        for info in pkgutil.walk_packages(root.__path__, f"{package}."):
            if any(part.startswith("_") for part in info.name.split(".")):
                continue
            module = importlib.import_module(info.name)
            for name in getattr(module, "__all__", ()):
                value = getattr(module, name)
                if isinstance(value, np.ndarray):
                    yield f"{info.name}.{name}", module, name


def test_exported_arrays_go_into_compiled_code():
    """SciPy 1.17 refuses read-only arrays in `Rotation.apply`: what a module exports is a copy for each who asks."""
    names = []
    for label, module, name in exported_arrays():
        names.append(label)
        value = getattr(module, name)
        assert value.flags.writeable, label
        if value.shape[-1] == 3:
            assert Rotation.identity().apply(value).shape == value.shape
        value += 1
        assert not np.array_equal(getattr(module, name), value), f"{label} is shared: who writes to it harms others"
    assert "pose.reference.HEAD_IBUG68" in names


def test_arrays_of_results_go_into_compiled_code():
    turn = Rotation.from_rotvec([0.1, 0.2, 0.3])
    turn.apply(reference.HEAD_IBUG68)
    turn.apply(POSE.translation)
    turn.apply(solve_pnp(HEAD, PIXELS, CAMERA).pose.translation)
    turn.apply(reference.reference_landmarks()[0])
    turn.apply(FaceModel3D.bundled().fit(PIXELS, CAMERA).landmarks_3d)


def test_if_there_is_a_second_pose():
    assert bool(POSE)
    assert bool(WeakPerspective(1.0, Rotation.identity(), [0.0, 0.0]))
    assert bool(Pose(Rotation.identity(2), [0.0, 0, 1]))


def test_the_two_solvers_name_the_same_failures():
    objects = np.tile(HEAD, (5, 1, 1))
    images = np.tile(PIXELS, (5, 1, 1))
    images[0, 3:] = np.nan
    objects[1] = HEAD[0]
    objects[2] = np.outer(np.arange(68), [1.0, 2.0, 3.0])
    images[3] = 7.0
    expected = ["too few points", "object points coincide", "object points on a line", "image points coincide", "ok"]
    for result in (solve_pnp(objects, images, CAMERA), solve_weak_perspective(objects, images)):
        assert result.status.tolist() == expected
        assert result.converged.tolist() == [False] * 4 + [True]
        assert np.isnan(result.second_error).sum() == 0
        assert len(result.n_iter) == 5


def test_weak_perspective_costs_no_more_than_pnp():
    views = np.random.default_rng(0).normal(size=(2000, 68, 2)) + PIXELS

    solvers = (lambda x: solve_weak_perspective(HEAD, x)), (lambda x: solve_pnp(HEAD, x, CAMERA))
    for solve in solvers:
        solve(views[:64])  # compiled
    times = np.empty((5, 2))
    for row in times:  # in turns, and the least of each: other work on the machine slows both
        for i, solve in enumerate(solvers):
            start = time.process_time()
            solve(views)
            row[i] = time.process_time() - start
    weak, pnp = times.min(axis=0)
    assert weak < 1.5 * pnp  # measured: 0.8
