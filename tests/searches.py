"""Searches that several modules of tests look at, trained once: drawn faces, two kinds of evidence."""

import numpy as np
import pytest
from strategies import face_picture

from shape_models import ASM, IBUG68, AlignedASM, make_faces
from shape_models.search import ASMFitter, Patches, Profiles

SIZE = (100, 100)


def boxes_of(shapes):
    return np.concatenate([shapes.min(axis=1), shapes.max(axis=1)], axis=1)


def maps_of(shape, size, sigma=2.0):
    y, x = np.mgrid[: size[0], : size[1]]
    return np.exp(-((x - shape[:, :1, None]) ** 2 + (y - shape[:, 1:, None]) ** 2) / (2 * sigma**2))


@pytest.fixture(scope="session")
def faces():
    shapes = 0.4 * make_faces(60, rng=0)
    rng = np.random.default_rng(1)
    return [face_picture(shape, SIZE, rng=rng) for shape in shapes], shapes


@pytest.fixture(scope="session")
def asm():
    return AlignedASM(ASM(0.95), scheme=IBUG68)


@pytest.fixture(scope="session")
def patches(faces, asm):
    images, shapes = faces
    evidence = Patches(n_cells=4, spacing=4)
    return ASMFitter(asm, evidence=evidence, resolution=64, n_perturbations=4).fit(images[:50], shapes[:50])


@pytest.fixture(scope="session")
def profiles(faces, asm):
    images, shapes = faces
    evidence = Profiles(n_side=5, reach=5)
    return ASMFitter(asm, evidence=evidence, n_levels=3, resolution=80).fit(images[:50], shapes[:50])


@pytest.fixture(params=["patches", "profiles"])
def fitter(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def wide(faces):
    """A face in a larger picture, so that it can be moved."""
    images, shapes = faces
    picture = np.full((200, 220), 90, dtype=np.uint8)
    picture[40:140, 50:150] = images[52]
    return picture, shapes[52] + [50, 40], boxes_of(shapes[52:53])[0] + [50, 40, 50, 40]
