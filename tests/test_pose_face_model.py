"""The 3-D face model: pose and shape together."""

from dataclasses import replace

import numpy as np
import pytest

from pose import Camera, FaceModel3D, Pose, conventions, estimate_head_pose, project_points, solve_pnp
from pose.reference import HEAD_IBUG68
from shape_models import IBUG68, DegenerateShapeError, ShapeBasis
from shape_models.io import load_model, save_model

CAMERA = Camera.from_image_size((640, 480))
MODEL = FaceModel3D.bundled()
MIRROR = np.asarray(IBUG68.mirror)


def _faces(rng, b, noise=0.5, spread=1.0):
    """Faces drawn from the model, seen from the front and the side."""
    betas = np.clip(rng.normal(scale=spread, size=(b, MODEL.basis.n_components)), -2.5, 2.5)
    shapes = MODEL.basis.decode(betas * np.sqrt(MODEL.basis.variances))
    angles = np.c_[rng.uniform(-50, 50, b), rng.uniform(-25, 25, b), rng.uniform(-30, 30, b)]
    pose = Pose(conventions.read(angles, "HopeNet"), np.c_[rng.uniform(-40, 40, (b, 2)), rng.uniform(400, 900, b)])
    return shapes, pose, project_points(shapes, pose, CAMERA) + rng.normal(scale=noise, size=(b, 68, 2))


def _turn(pose, other):
    return np.degrees((pose.rotation * other.rotation.inv()).magnitude())


def test_bundled_model_is_the_reference_with_modes():
    np.testing.assert_allclose(MODEL.basis.mean, HEAD_IBUG68, atol=0.011)
    assert "research use" in MODEL.provenance
    modes = MODEL.basis.components.reshape(-1, 68, 3)
    flipped = modes[:, MIRROR] * [-1, 1, 1]
    parity = np.einsum("kni,kni->k", modes, flipped)
    np.testing.assert_allclose(np.abs(parity), 1, atol=1e-6)  # each mode is even or odd under the mirror


def test_the_mean_face_has_no_coefficients():
    pixels = project_points(MODEL.basis.mean, Pose.identity([10, 0, 600]), CAMERA)
    fit = MODEL.fit(pixels, CAMERA)
    assert fit.converged
    np.testing.assert_allclose(fit.coefficients, 0, atol=1e-6)
    np.testing.assert_allclose(fit.angles().as_array(), 0, atol=1e-6)


def test_shape_and_pose_together_beat_the_rigid_fit(rng):
    shapes, pose, pixels = _faces(rng, 150)
    model = replace(MODEL, noise=0.01, weights=np.ones(68))
    fit, rigid = model.fit(pixels, CAMERA), estimate_head_pose(pixels, CAMERA)
    assert fit.converged.all()
    assert np.median(_turn(fit.pose, pose)) < 0.5 * np.median(_turn(rigid.pose, pose))
    assert np.median(np.linalg.norm(fit.landmarks_3d - shapes, axis=-1)) < 0.5 * np.median(
        np.linalg.norm(HEAD_IBUG68 - shapes, axis=-1)
    )
    np.testing.assert_allclose(project_points(fit.landmarks_3d, fit.pose, CAMERA) - pixels, fit.residuals, atol=1e-8)


def test_the_fit_is_the_minimum_of_its_objective(rng):
    """The gradient by finite differences vanishes in pose and in every coefficient within the limit."""
    from scipy.spatial.transform import Rotation

    _, _, pixels = _faces(rng, 1, noise=1.0, spread=0.5)
    fit = MODEL.fit(pixels[0], CAMERA)
    deviations = np.sqrt(MODEL.basis.variances)
    size = np.sqrt(((pixels[0] - pixels[0].mean(0)) ** 2).sum(1).mean())

    def objective(p):
        shape = MODEL.basis.decode(fit.coefficients + p[6:] * deviations)
        pose = Pose(Rotation.from_rotvec(p[:3]) * fit.pose.rotation, fit.pose.translation + p[3:6] * 100)
        error = ((project_points(shape, pose, CAMERA) - pixels[0]) ** 2).sum(1) @ MODEL.weights
        return error / (MODEL.noise * size) ** 2 + ((fit.coefficients / deviations + p[6:]) ** 2).sum()

    steps = 1e-5 * np.eye(26)
    gradient = np.array([objective(h) - objective(-h) for h in steps]) / 2e-5
    curvature = np.array([objective(h) + objective(-h) - 2 * objective(0 * h) for h in steps]) / 1e-10
    assert fit.on_limit == 0
    assert np.abs(gradient / curvature).max() < 1e-6  # the distance to the minimum along each parameter


def test_batch_is_the_loop(rng):
    _, _, pixels = _faces(rng, 70)
    pixels[3, 40] = np.nan
    batch = MODEL.fit(pixels, CAMERA)
    for i in (0, 3, 40, 69):
        one = MODEL.fit(pixels[i], CAMERA)
        np.testing.assert_allclose(batch.pose[i].as_matrix(), one.pose.as_matrix(), atol=1e-9)
        np.testing.assert_allclose(batch.coefficients[i], one.coefficients, atol=1e-9)
        assert batch.status[i] == one.status


def test_mirror_law(rng):
    _, _, pixels = _faces(rng, 20)
    fit, other = MODEL.fit(pixels, CAMERA), MODEL.fit(pixels[:, MIRROR] * [-1, 1] + [639, 0], CAMERA)
    np.testing.assert_allclose(other.angles().as_array(), fit.angles().as_array() * [-1, 1, -1], atol=1e-4)
    np.testing.assert_allclose(other.landmarks_3d[:, MIRROR] * [-1, 1, 1], fit.landmarks_3d, atol=1e-3)


def test_coefficients_keep_to_the_limit(rng):
    _, _, pixels = _faces(rng, 20, noise=25.0)
    model = replace(MODEL, basis=replace(MODEL.basis, limit=1.0), noise=0.005)
    fit = model.fit(pixels, CAMERA)
    assert (np.abs(fit.coefficients) <= np.sqrt(MODEL.basis.variances) * (1 + 1e-9)).all()
    assert fit.on_limit.max() > 0
    assert (fit.mahalanobis <= np.sqrt(MODEL.basis.n_components)).all()


def test_bad_rows_are_flagged(rng):
    pixels = _faces(rng, 3)[2]
    pixels[1, 3:] = np.nan
    fit = MODEL.fit(pixels, CAMERA)
    assert fit.converged.tolist() == [True, False, True]
    assert fit.status[1] == "too few points"
    assert np.isnan(fit.pose.translation[1]).all()


def test_a_single_face_without_an_answer_raises():
    with pytest.raises(DegenerateShapeError, match="got 0 points that are seen"):
        MODEL.fit(np.full((68, 2), np.nan), CAMERA)
    for name in ("tol", "max_iter"):
        with pytest.raises(ValueError, match=f"{name}: got 0; expected"):
            MODEL.fit(np.ones((68, 2)), CAMERA, **{name: 0})


def test_the_second_pose_of_one_face_is_that_of_the_rigid_fit(rng):
    pixels = _faces(rng, 30)[2]
    for face in pixels:
        fit, rigid = MODEL.fit(face, CAMERA), solve_pnp(MODEL.basis.mean, face, CAMERA, weights=MODEL.weights, tol=1e-6)
        assert (fit.second is None) == (rigid.second is None)
        assert isinstance(fit.second_error, float)
        assert fit.second_error == rigid.second_error
        assert fit.second is None or fit.second.single


def test_a_distorted_lens(rng):
    camera = Camera((700.0, 700.0), (320.0, 240.0), (-0.3, 0.1, 0.001, 0.001, 0.0))
    pose = Pose(conventions.read([25.0, 5.0, 3.0], "HopeNet"), [150, 100, 500])
    exact = project_points(MODEL.basis.mean, pose, camera)
    assert _turn(MODEL.fit(exact, camera).pose, pose) < 1e-4
    pixels = exact + rng.normal(scale=3.0, size=exact.shape)
    fit = MODEL.fit(pixels, camera)
    np.testing.assert_allclose(fit.residuals, project_points(fit.landmarks_3d, fit.pose, camera) - pixels, atol=1e-8)
    np.testing.assert_allclose(fit.reprojection_error, np.sqrt((fit.residuals**2).sum(1).mean()), rtol=1e-12)


def test_a_face_beyond_the_reach_of_the_lens_is_flagged():
    camera = Camera((700.0, 700.0), (320.0, 240.0), (-0.5, 0.0, 0.0, 0.0, 0.0))
    seen = project_points(MODEL.basis.mean, Pose.identity([0, 0, 600]), camera)
    far = seen + np.array([900.0, 0.0])
    with pytest.raises(ValueError, match="no inverse"):
        MODEL.fit(far, camera)
    fit = MODEL.fit(np.stack([seen, far]), camera)
    assert fit.converged.tolist() == [True, False]
    assert fit.status[1] == "no inverse of the distortion"
    assert np.isnan(fit.pose.translation[1]).all()
    assert np.isinf(fit.reprojection_error[1])
    one = np.array(seen)
    one[0] = far[0]
    weights = np.arange(len(one)) > 0  # the landmark beyond reach is not used
    alone, together = MODEL.fit(one, camera, weights=weights), MODEL.fit(one[None], camera, weights=weights)
    assert alone.converged
    np.testing.assert_allclose(alone.landmarks_3d, together.landmarks_3d[0])


def test_estimate_head_pose_takes_the_model(rng):
    _, _, pixels = _faces(rng, 2)
    by_model = estimate_head_pose(pixels, CAMERA, model=MODEL)
    np.testing.assert_allclose(by_model.coefficients, MODEL.fit(pixels, CAMERA).coefficients, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="expected 'linear'"):
        estimate_head_pose(pixels, CAMERA, model=MODEL, loss="huber")


def test_save_and_load(tmp_path):
    save_model(MODEL, tmp_path / "face.npz")
    again = load_model(tmp_path / "face.npz")
    assert isinstance(again, FaceModel3D)
    np.testing.assert_array_equal(again.basis.components, MODEL.basis.components)
    np.testing.assert_array_equal(again.weights, MODEL.weights)
    assert again.provenance == MODEL.provenance
    assert again.scheme == IBUG68


def test_refusals():
    flat = ShapeBasis(np.zeros((68, 2)), np.eye(136)[:2], np.ones(2))
    with pytest.raises(ValueError, match=r"expected \(68, 3\)"):
        FaceModel3D(flat)
    with pytest.raises(ValueError, match=r"noise: got 0.0; expected a finite positive number"):
        replace(MODEL, noise=0.0)


def test_real_faces(data_dir):
    """On the half that was no source; and the bundled modes are what the code learns from the other half."""
    data = np.load(data_dir / "landmarks" / "aflw2000_3d68.npz")
    shapes, labels = data["shapes"] * [1, 1, -1], data["abs_yaw_degrees"]
    learned = FaceModel3D.learn(shapes[::2], n_components=20)
    np.testing.assert_allclose(learned.basis.variances, MODEL.basis.variances, rtol=1e-6)
    fit = MODEL.fit(shapes[1::2, :, :2], Camera.from_image_size(450))
    yaw = np.abs(conventions.write(fit.pose.rotation, "HopeNet", beyond_profile=True)[:, 0])
    assert np.median(yaw[labels[1::2] < 2]) <= 2
    assert fit.converged.mean() > 0.99


def test_points_at_random_are_a_poor_fit(rng):
    fit = MODEL.fit(rng.uniform(0, 400, size=(5, 68, 2)), CAMERA)
    assert set(fit.status) <= {"poor fit", "not converged"}
    assert "poor fit" in fit.status
