"""Hypothesis strategies for bases, shapes, poses and cameras."""

import numpy as np
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pose import Pose, project_points
from shape_models import Box, Ellipsoid, ShapeBasis, Similarity, SoftBox

# --- The operator (ShapeBasis, limits, completion) -------------------------------------------------------

seeds = st.integers(0, 2**32 - 1)


@st.composite
def bases(draw, limits=None, noise=(0.0,), flat=False, min_variance=0.0):
    """A basis with any number of landmarks, dimensions and modes, any scale, equal and vanishing variances."""
    rng = np.random.default_rng(draw(seeds))
    n_landmarks, n_dims = draw(st.integers(2, 9)), draw(st.sampled_from([2, 3]))
    n_features = n_landmarks * n_dims
    n_components = draw(st.integers(1, n_features))
    scale = 10.0 ** draw(st.integers(-3, 3))
    kind = draw(st.sampled_from(["falling", "equal", "steep", "with zeros"]))
    variances = np.sort(rng.uniform(0.1, 1.0, n_components))[::-1]
    if kind == "equal":
        variances = np.ones(n_components)
    elif kind == "steep":
        variances = 10.0 ** -np.linspace(0, 6, n_components)
    elif kind == "with zeros":
        variances = np.where(rng.random(n_components) < 0.3, min_variance, variances)
    components = np.linalg.qr(rng.normal(size=(n_features, n_components)))[0].T
    mean = rng.normal(size=(n_landmarks, n_dims)) * scale * draw(st.sampled_from([0.0, 1.0, 100.0]))
    if flat:
        mean = mean.ravel()
    if limits is None:
        limits = st.floats(0.0, 5.0).map(Box)
    noise_variance = draw(st.sampled_from(noise)) * scale**2
    return ShapeBasis(mean, components, variances * scale**2, draw(limits), noise_variance=noise_variance)


def any_limit():
    radius = st.floats(0.0, 5.0)
    return st.one_of(st.none(), radius.map(Box), radius.map(Ellipsoid), radius.map(SoftBox))


def draw_shapes(basis, seed, size=(), spread=3.0):
    """Shapes about the model: in the span and off it, `spread` standard deviations wide."""
    rng = np.random.default_rng(seed)
    top = float(np.sqrt(np.max(np.asarray(basis.variances)))) or 1.0
    return np.asarray(basis.mean) + spread * top * rng.standard_normal((*size, *basis.event_shape))


# --- Alignment (similarity, Procrustes) ------------------------------------------------------------------


@st.composite
def coordinates(draw, shape, *, spread=1.0):
    """Landmark coordinates with distinct points: standard normal numbers from a drawn seed."""
    return spread * np.random.default_rng(draw(st.integers(0, 2**32 - 1))).normal(size=shape)


@st.composite
def rotations(draw, n_dims, n=None):
    """Uniform rotation matrices: one, or a batch of n."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    q, r = np.linalg.qr(rng.normal(size=(n or 1, n_dims, n_dims)))
    q = q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None]
    q[:, 0] *= np.linalg.det(q)[:, None]
    return q if n else q[0]


@st.composite
def similarities(draw, n_dims, n=None):
    """Similarities with scales between 0.01 and 100 and translations up to a thousand."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    batch = (n,) if n else ()
    scale = np.exp(rng.uniform(np.log(0.01), np.log(100), size=batch))
    return Similarity(draw(rotations(n_dims, n)), rng.uniform(-1000, 1000, size=(*batch, n_dims)), scale)


@st.composite
def shape_sets(draw, n_dims, *, noise=0.1, min_samples=2, max_samples=12, min_landmarks=4):
    """Sets of noisy copies of one drawn shape, each in its own pose: (n_samples, n_landmarks, n_dims)."""
    n, k = draw(st.integers(min_samples, max_samples)), draw(st.integers(min_landmarks, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    template = rng.normal(size=(k, n_dims))
    poses = draw(similarities(n_dims, n))
    return poses(template / np.linalg.norm(template) + noise / np.sqrt(k) * rng.normal(size=(n, k, n_dims)))


# --- Pose (projection, PnP) ------------------------------------------------------------------------------


def random_rotations(rng, n=None):
    """Rotations without preference; releases of SciPy differ in how their own function takes a generator."""
    return Rotation.from_quat(np.random.default_rng(rng).normal(size=4 if n is None else (n, 4)))


@st.composite
def head_rotations(draw):
    """Any single rotation, the singular places of Euler angles included."""
    if draw(st.booleans()):
        angles = [draw(st.sampled_from([-180.0, -90.0, 0.0, 30.0, 90.0, 180.0])) for _ in range(3)]
        return Rotation.from_euler(draw(st.sampled_from(["XYZ", "ZYX"])), angles, degrees=True)
    return random_rotations(np.random.default_rng(draw(st.integers(0, 2**32 - 1))))


@st.composite
def poses(draw):
    """Any rotation, at a distance that keeps points of a few units in front of the camera."""
    place = [draw(st.floats(-1.0, 1.0)), draw(st.floats(-1.0, 1.0)), draw(st.floats(8.0, 50.0))]
    return Pose(draw(head_rotations()), place)


@st.composite
def views(draw, camera, n_points=None, flat=None):
    """(points, pose, pixels): targets of any flatness, off the axis, from close by to far away, without noise."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    thickness = 1.0 if flat is False else draw(st.sampled_from([1.0, 0.02, 0.0]))
    points = rng.normal(size=(draw(st.integers(4, 30) if n_points is None else n_points), 3)) * [1.0, 1.0, thickness]
    rotation = random_rotations(rng)
    nearest = -rotation.apply(points)[:, 2].min()
    depth = nearest + draw(st.floats(0.3, 30.0))
    pose = Pose(rotation, [*(rng.uniform(-0.4, 0.4, 2) * depth), depth])
    return points, pose, project_points(points, pose, camera)


# --- Evaluation (metrics, statistics) --------------------------------------------------------------------


@st.composite
def faces_and_predictions(draw, n_landmarks=8, n_dims=2):
    """True faces of well-separated landmarks at any place and size, and predictions near or far."""
    n_faces = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size, noise = 10.0 ** draw(st.integers(-3, 4)), 10.0 ** draw(st.integers(-4, 1))
    truth = rng.standard_normal((n_faces, n_landmarks, n_dims)) + 4 * np.arange(n_landmarks)[:, None]
    guess = truth + noise * rng.standard_normal(truth.shape)
    place = rng.standard_normal((n_faces, 1, n_dims)) * draw(st.sampled_from([0.0, 10.0, 1000.0]))
    return size * (truth + place), size * (guess + place)


def error_lists(min_size=1, max_size=30):
    """Errors of a set of faces: zeros, repeated and large ones among them."""
    one = st.floats(0, 3, allow_subnormal=False) | st.sampled_from([0.0, 0.05, 0.08, 0.1])
    return st.lists(one, min_size=min_size, max_size=max_size).map(np.array)


# --- Search (profiles, patches) --------------------------------------------------------------------------


def face_picture(shape, size=(100, 100), *, rng=None):
    """A drawn face whose parts lie where the 68 landmarks say, smooth, with a little noise: uint8 (height, width)."""
    from scipy.ndimage import gaussian_filter
    from skimage.draw import polygon

    factor = 3  # drawn larger, then smoothed and thinned: edges lie between pixels as in a photograph
    big = np.full((size[0] * factor, size[1] * factor), 90.0)

    def fill(indices, value):
        at = (np.asarray(shape)[indices] + 0.5) * factor - 0.5
        rows, columns = polygon(at[:, 1], at[:, 0], big.shape)
        big[rows, columns] = value

    fill([*range(17), 26, 25, 24, 19, 18, 17], 190)
    for brow in (range(17, 22), range(22, 27)):
        low = np.asarray(shape)[list(brow)] + [0, 3.0]
        at = (np.concatenate([np.asarray(shape)[list(brow)], low[::-1]]) + 0.5) * factor - 0.5
        rows, columns = polygon(at[:, 1], at[:, 0], big.shape)
        big[rows, columns] = 60
    for eye in (range(36, 42), range(42, 48)):
        fill(list(eye), 30)
    fill([27, 31, 32, 33, 34, 35], 150)
    fill(list(range(48, 60)), 110)
    fill(list(range(60, 68)), 60)
    smooth = gaussian_filter(big, factor)[factor // 2 :: factor, factor // 2 :: factor]
    rng = np.random.default_rng(0) if rng is None else rng
    return np.clip(np.round(smooth + rng.normal(scale=2, size=smooth.shape)), 0, 255).astype(np.uint8)


# --- Networks (losses, heat maps, distillation) ----------------------------------------------------------
