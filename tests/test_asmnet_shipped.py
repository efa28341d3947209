"""The models that ship: on an image of the public domain, and on real validation faces where they are at hand."""

import numpy as np
import pytest

from asmnet import Predictor
from asmnet._card import model_card
from asmnet.checkpoints import load_pretrained
from asmnet.robustness import jittered
from evaluation import nme
from shape_models import IBUG68
from shape_models.datasets import LandmarkSample, read_imm

PUPILS = np.array([[203.7, 100.5], [246.2, 102.5]])  # of the astronaut of scikit-image, by eye
CHIN = np.array([222.0, 178.0])


@pytest.fixture(scope="module")
def predictor():
    return Predictor.from_pretrained("asmnet-68")


@pytest.fixture(scope="module")
def hourglass():
    return Predictor.from_pretrained("hourglass-68")


@pytest.fixture(scope="module")
def astronaut():
    return pytest.importorskip("skimage.data").astronaut()


def assert_on_the_astronaut(face):
    eyes = np.stack([face.landmarks[36:42].mean(0), face.landmarks[42:48].mean(0)])
    assert np.linalg.norm(eyes - PUPILS, axis=1).max() < 5
    assert np.linalg.norm(face.landmarks[8] - CHIN) < 9
    assert face.pose is None or np.abs(face.pose).max() < 15
    assert face.plausibility > 0.01
    assert np.linalg.norm(face.fitted - face.landmarks, axis=1).max() < 6


def test_astronaut_from_a_box(predictor, astronaut):
    (face,) = predictor(astronaut, [178, 85, 271, 180])
    assert_on_the_astronaut(face)


def test_astronaut_by_heat_maps(hourglass, astronaut):
    (face,) = hourglass(astronaut, [178, 85, 271, 180])
    assert_on_the_astronaut(face)
    nose, ears = face.depth[30], face.depth[[0, 16]]
    assert nose < -15 < 15 < ears.min()  # pixels; the face is 93 wide


def test_astronaut_by_the_light_network(astronaut):
    (face,) = Predictor.from_pretrained("light-68")(astronaut, [178, 85, 271, 180])
    assert_on_the_astronaut(face)


def test_astronaut_without_a_box(predictor, astronaut):
    (face,) = predictor(astronaut)
    assert_on_the_astronaut(face)


def test_rough_boxes_are_repaired_by_a_second_pass(predictor, astronaut):
    for box in jittered(np.tile([178.0, 85.0, 271.0, 180.0], (5, 1)), 0.1):
        (face,) = predictor(astronaut, box, n_passes=2)
        assert_on_the_astronaut(face)


def test_grey_and_deep_images_give_nearly_the_same(predictor, astronaut):
    box = [178, 85, 271, 180]
    (colour,) = predictor(astronaut, box)
    (deep,) = predictor(astronaut.astype(np.uint16) * 257, box)
    np.testing.assert_allclose(deep.landmarks, colour.landmarks, atol=1e-6)
    (grey,) = predictor(astronaut.mean(-1).astype(np.uint8), box)
    assert np.linalg.norm(grey.landmarks - colour.landmarks, axis=1).mean() < 2


def test_card_says_what_matters():
    model = load_pretrained("asmnet-68")
    card = model_card(model.header)
    for words in ("research", "300-W", "NME (inter_ocular)", "1,412,435", "pose MAE", "Limits"):
        assert words in card
    assert model.scheme == IBUG68
    assert model.basis.n_components > 2


def test_card_of_the_heat_map_network():
    card = model_card(load_pretrained("hourglass-68").header)
    for words in ("research", "300-W", "712,296", "heat map of 64 x 64", "not from measurements", "Limits"):
        assert words in card
    assert "yaw, pitch, roll" not in card


@pytest.mark.data
@pytest.mark.parametrize("name", ["asmnet-68", "hourglass-68"])
def test_the_joint_answer_on_validation_faces(name, data_dir):
    """On every ninth face, plain and a quarter covered: no worse, better, and the expected error tells which is bad."""
    from scipy.stats import spearmanr

    from asmnet.data import load_image
    from shape_models.datasets import read_300w

    call, rng = Predictor.from_pretrained(name), np.random.default_rng(5)
    errors, expected = {"raw": [], "fitted": []}, []
    for sample in list(read_300w(data_dir / "300w", "val"))[::9]:
        box = np.concatenate([sample.landmarks.min(0), sample.landmarks.max(0)])
        plain = load_image(sample.image)
        covered, half = plain.copy(), (box[2:] - box[:2]) / 2
        x, y = (box[:2] + rng.uniform(0, 1, 2) * half).round().astype(int).clip(0)
        covered[y : y + int(half[1]), x : x + int(half[0])] = 127
        for image in (plain, covered):
            (face,) = call(image, box, n_passes=1)
            eyes = np.linalg.norm(sample.landmarks[36] - sample.landmarks[45])
            for kind, points in (("raw", face.landmarks), ("fitted", face.fitted)):
                errors[kind].append(np.linalg.norm(points - sample.landmarks, axis=1).mean() / eyes)
            expected.append(face.expected_error / eyes)
    raw, fitted = (np.reshape(errors[kind], (-1, 2)) for kind in ("raw", "fitted"))
    assert fitted[:, 0].mean() < raw[:, 0].mean()
    assert fitted[:, 1].mean() < 0.95 * raw[:, 1].mean()
    assert spearmanr(expected, errors["fitted"]).statistic > 0.6


@pytest.mark.data
def test_validation_faces(predictor, data_dir):
    """On every seventh validation face: close to the card, and steady under boxes off by ten percent."""
    from asmnet.data import load_image
    from shape_models.datasets import read_300w

    samples = list(read_300w(data_dir / "300w", "val"))[::7]
    truth = np.stack([s.landmarks for s in samples])
    boxes = np.concatenate([truth.min(1), truth.max(1)], 1)
    images = [load_image(s.image) for s in samples]

    def error(used, **options):
        found = predictor(images, list(used), flip_average=True, **options)
        points = np.stack([faces[0].landmarks for faces in found])
        return float(np.mean(nme(truth, points, normalizer="inter_ocular", scheme=IBUG68)))

    exact = error(boxes)
    assert exact < 0.046
    assert error(jittered(boxes, 0.1), n_passes=2) < 1.15 * exact


@pytest.mark.data
@pytest.mark.parametrize(("name", "limit"), [("imm-58", 0.02), ("hands-56", 0.01)])
def test_networks_of_small_sets_on_persons_kept_aside(name, limit, data_dir):
    """On frontal portraits of ten persons, and on a third hand; the errors are divided by the diagonal of the box."""
    from asmnet.data import load_image

    if name == "imm-58":
        samples = [sample for sample in read_imm(data_dir / "imm") if sample.attributes["pose"] == 1][20:]
    else:
        with np.load(data_dir / "hands/landmarks.npz") as file:
            names = [data_dir / "hands" / str(image) for image in file["images"]]
            samples = [
                LandmarkSample(*own) for own in zip(names, file["shapes"], strict=True) if own[0].name.startswith("004")
            ]
    assert len(samples) == 10
    predictor = Predictor.from_pretrained(name)
    errors, plausible = [], []
    for sample in samples:
        box = np.concatenate([sample.landmarks.min(0), sample.landmarks.max(0)])
        (found,) = predictor(load_image(sample.image), box)
        distance = np.linalg.norm(found.landmarks - sample.landmarks, axis=1).mean()
        errors.append(distance / np.hypot(*(box[2:] - box[:2])))
        plausible.append(found.plausibility)
    assert np.mean(errors) < limit
    assert np.median(plausible) > 0.1


def test_a_face_is_followed_by_a_network():
    """The tracker takes any predictor: the image judges its landmarks where it states no confidence."""
    from skimage.data import astronaut

    from shape_models.search import track

    frames = [np.roll(astronaut(), 3 * k, axis=1) for k in range(5)]
    frames[3] = np.full_like(frames[3], 90)
    predictor = Predictor.from_pretrained("light-68")
    alone = predictor(frames[0])[0].landmarks
    out = list(track(frames, predictor))
    assert [frame.faces[0].status for frame in out] == ["new", "tracked", "tracked", "predicted", "recovered"]
    for k in (0, 2, 4):
        assert np.linalg.norm(out[k].faces[0].landmarks - alone - [3 * k, 0], axis=1).mean() < 2.0
