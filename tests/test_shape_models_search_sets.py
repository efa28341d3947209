"""Searches that are trained on a set of landmarks, which brings its shapes, names and groups along."""

import numpy as np
import pytest
from PIL import Image
from strategies import face_picture

from shape_models import ASM, IBUG68, AlignedASM, LandmarkFile, make_faces, write_landmarks
from shape_models.datasets import load_landmarks
from shape_models.search import ASMFitter


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six faces with images beside them; half of the files name their landmarks in another order."""
    root = tmp_path_factory.mktemp("faces")
    order = np.random.default_rng(0).permutation(68)
    for i, shape in enumerate(0.4 * make_faces(6, rng=1)):
        Image.fromarray(face_picture(shape)).save(root / f"{i}.png")
        which = order if i % 2 else np.arange(68)
        write_landmarks(root / f"{i}.csv", LandmarkFile(shape[which], tuple(IBUG68.names[j] for j in which)))
    return root


def test_a_fitter_takes_a_set(folder):
    samples = load_landmarks(folder, scheme="ibug68")
    options = {"evidence": "profiles", "n_perturbations": 2, "calibration": 0, "random_state": 0}
    fitter = ASMFitter(**options).fit(samples)
    asm = AlignedASM(ASM(0.98), scheme=IBUG68)  # what the set brings along
    plain = ASMFitter(asm, **options).fit(samples.images, samples.shapes(), groups=samples.groups)
    assert fitter.asm_.landmark_names_ == IBUG68.names
    assert fitter.asm_.frame_ == "pixels"
    boxes = [[10, 10, 90, 90]] * len(samples)
    for one, two in zip(fitter.predict(samples, boxes=boxes), plain.predict(samples.images, boxes=boxes), strict=True):
        np.testing.assert_allclose(one.shape, two.shape, rtol=0, atol=1e-4)
    again = ASMFitter(fitter.asm_, **options).fit(samples)  # a fitted shape model: landmarks are matched to its names
    assert again.asm_ is fitter.asm_


def test_a_set_is_refused_where_it_has_no_images_or_no_pixels(folder):
    samples = load_landmarks(folder, scheme="ibug68")
    with pytest.raises(ValueError, match="got shapes beside a set"):
        ASMFitter(evidence="profiles").fit(samples, samples.shapes())
    with pytest.raises(ValueError, match="6 of 6 have no image beside them, the first is 0"):
        ASMFitter(evidence="profiles").fit(load_landmarks(samples.shapes(), frame="pixels"))
    with pytest.raises(ValueError, match="frame 'physical'; expected pixels"):
        ASMFitter(evidence="profiles").fit(samples.with_shapes(samples.shapes(), frame="physical"))
