"""The predictor: frames, boxes, batches, flips, passes; and what it refuses."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from asmnet import ASMNet, LandmarkDataset, Predictor, Preprocessing, predict_dataset
from asmnet._crops import Crops, cut_faces, tight_boxes
from asmnet._inference import Answers
from asmnet._looks import Settling
from asmnet.augmentation import crop_transform
from asmnet.checkpoints import PretrainedModel
from asmnet.heatmaps import decode_heatmaps, draw_heatmaps, map_to_units, units_to_map
from asmnet.layers import fuse_norms
from asmnet.networks import Prediction, build_network, network_names
from asmnet.predictor import as_rgb
from shape_models import ASM, IBUG68, LandmarkScheme, boxes, load_model, make_faces


class Corners(nn.Module):
    """Says that the landmarks are the corners of the crop, then its centre: exposes the frame."""

    n_landmarks = 5

    def forward(self, images):
        corners = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5], [0.0, 0.0]])
        return Prediction(corners.expand(len(images), 5, 2), torch.tensor([[0.1, 0.2, -0.3]]).expand(len(images), 3))


class Brightest(nn.Module):
    """Finds the brightest pixel: shows that crops are cut where landmarks are mapped back to."""

    n_landmarks = 1

    def forward(self, images):
        h, w = images.shape[2:]
        index = images.sum(1).flatten(1).argmax(1)
        x, y = (index % w).float(), (index // w).float()
        return Prediction(torch.stack([(x + 0.5) / w - 0.5, (y + 0.5) / h - 0.5], 1)[:, None])


def predictor(network, scheme=None, **preprocessing):
    options = {"size": 64, "margin": 1.0, **preprocessing}
    return Predictor(PretrainedModel(network, "test", "asmnet", {}, scheme, Preprocessing(**options), None, {}))


@pytest.fixture(scope="module")
def face_net():
    torch.manual_seed(0)
    network = ASMNet(68, width=0.25).eval()
    faces = make_faces(50, rng=0)
    faces = (faces - faces.mean((0, 1))) / np.ptp(faces[:, :, 1], axis=1).mean() * 0.7
    with torch.no_grad():
        network.heads.landmarks.bias.copy_(torch.from_numpy(faces.mean(0).ravel()))
    return Predictor(PretrainedModel(network, "test", "asmnet", {}, IBUG68, Preprocessing(size=64), None, {}))


def test_crop_units_are_pixels_of_the_photograph():
    image = np.zeros((80, 100, 3), np.uint8)
    (face,) = predictor(Corners())(image, [20, 10, 50, 30])  # 30 x 20: a square of 30 about (35, 20)
    np.testing.assert_allclose(face.landmarks, [[20, 5], [50, 5], [50, 35], [20, 35], [35, 20]])
    (face,) = predictor(Corners(), square=False, margin=2.0)(image, [20, 10, 50, 30], n_passes=1)
    np.testing.assert_allclose(face.landmarks, [[5, 0], [65, 0], [65, 40], [5, 40], [35, 20]])
    np.testing.assert_allclose(face.pose, [6.5, 13.0, -19.5])
    assert (face.yaw, face.pitch, face.roll) == pytest.approx((6.5, 13.0, -19.5))


class Drawing(nn.Module):
    """Draws heat maps of one face, whatever the image; the map of the tip of the nose is blank where asked."""

    def __init__(self, units, blank=False):
        super().__init__()
        self.units, self.blank = torch.from_numpy(units)[None], blank

    def forward(self, images):
        maps = draw_heatmaps(units_to_map(self.units, (64, 64)), (64, 64), peak=10.0).float()
        if self.blank:
            maps[:, 30] = 0
        maps = maps.expand(len(images), *maps.shape[1:])
        points = map_to_units(decode_heatmaps(maps, method="parabola", flat="nan"), (64, 64))
        return Prediction(points, heatmaps=(maps,))


@pytest.mark.parametrize("blank", [False, True])
@pytest.mark.parametrize("options", [{"n_passes": 1}, {"n_passes": 2}, {"n_views": 3, "n_passes": 1}])
def test_the_shape_model_is_fitted_to_heat_maps(blank, options):
    model = load_model("face68")
    face = np.asarray(model.asm_.basis_.sample(1, rng=np.random.default_rng(3))[0])
    units = 0.7 * (face - (face.min(0) + face.max(0)) / 2) / np.ptp(face, axis=0).max()
    drawing = PretrainedModel(Drawing(units, blank), "test", "hourglass", {}, IBUG68, Preprocessing(size=128), None, {})
    (found,) = Predictor(drawing)(np.zeros((200, 240, 3), np.uint8), [60, 40, 160, 140], **options)
    first, last = found.box[:2], found.box[2:]
    expected = 1.3 * (last - first).max() * units + (first + last) / 2
    if "n_views" not in options:  # views differ in scale, and this network draws the same on each
        seen = np.arange(68) != 30 if blank else np.arange(68) >= 0
        np.testing.assert_allclose(found.landmarks[seen], expected[seen], atol=0.03)
    assert np.isnan(found.landmarks[30]).all() == blank
    assert np.linalg.norm(found.fitted - expected, axis=1).mean() < 1.5
    assert found.covariance.shape == (68, 2, 2)
    assert 0 < found.expected_error < 5
    assert 0 <= found.plausibility <= 1


def test_faces_that_cannot_be_fitted_do_not_stop_the_others():
    """Faces half outside, tiny, or without a single maximum, between whole ones."""
    model = load_model("face68")
    face = np.asarray(model.asm_.basis_.mean)
    units = 0.7 * (face - (face.min(0) + face.max(0)) / 2) / np.ptp(face, axis=0).max()

    class Blind(Drawing):
        def forward(self, images):
            answer = super().forward(images)
            blind = images[:, :, 20:44, 20:44].amax((1, 2, 3)) < -1.9  # black in the middle
            maps = torch.where(blind[:, None, None, None], 0.0, answer.heatmaps[0])
            return Prediction(
                torch.where(blind[:, None, None], torch.nan, answer.landmarks.expand(len(images), -1, -1)),
                heatmaps=(maps,),
            )

    predictor = Predictor(
        PretrainedModel(Blind(units), "test", "hourglass", {}, IBUG68, Preprocessing(size=64), None, {})
    )
    image = np.full((200, 240, 3), 128, np.uint8)
    image[:60, :60] = 0
    boxes = [[60, 80, 160, 180], [-40, 100, 60, 200], [100, 100, 104, 104], [0, 0, 50, 50], [60, 80, 160, 180]]
    whole, outside, tiny, blind, again = predictor(image, boxes, n_passes=1)
    for found in (whole, outside, tiny):
        assert np.isfinite(found.fitted).all()
        size = 1.3 * (found.box[2:] - found.box[:2]).max()
        expected = size * units + (found.box[:2] + found.box[2:]) / 2
        assert np.linalg.norm(found.fitted - expected, axis=1).mean() < 0.02 * size
    np.testing.assert_allclose(again.fitted, whole.fitted)
    assert np.isnan(blind.fitted).all()
    assert np.isnan(blind.plausibility)
    assert (whole.status, blind.status) == ("ok", "too few landmarks")
    assert json.loads(json.dumps(blind.to_dict(), allow_nan=False))["landmarks"][0] == [None, None]
    assert predictor(np.full((8, 8), 128, np.uint8), [0, 0, 7, 7], n_passes=1)[0].fitted.shape == (68, 2)


@pytest.mark.parametrize("maps", [True, False])
def test_landmarks_that_look_like_no_face_have_a_status_and_harm_no_other(maps):
    shape_model = load_model("face68")
    face = np.asarray(shape_model.asm_.mean_)
    units = 0.7 * (face - (face.min(0) + face.max(0)) / 2) / np.ptp(face, axis=0).max()

    class Confused(Drawing):
        """Draws faces upside down where the image is black."""

        def forward(self, images):
            right, wrong = super().forward(images), Drawing(units * [1, -1])(images)
            dark = (images.amax((1, 2, 3)) < 0)[:, None, None]
            drawn = torch.where(dark[..., None], wrong.heatmaps[0], right.heatmaps[0])
            landmarks = torch.where(dark, wrong.landmarks, right.landmarks)
            return Prediction(landmarks, heatmaps=(drawn,) if maps else ())

    model = PretrainedModel(Confused(units), "test", "hourglass", {}, IBUG68, Preprocessing(size=64), None, {})
    image = np.full((200, 200, 3), 255, np.uint8)
    image[:, :100] = 0
    wrong, right = Predictor(model)(image, [[20, 60, 80, 120], [120, 60, 180, 120]], n_passes=1)
    assert (wrong.status, right.status) == ("unlike the model", "ok")
    assert "unlike the model" in wrong.message
    assert wrong.plausibility < 1e-6
    assert np.isnan(wrong.fitted).all()
    assert np.isfinite(wrong.landmarks).all()
    assert np.isfinite(right.fitted).all()
    assert right.plausibility > 0.5
    assert json.loads(json.dumps(wrong.to_dict(), allow_nan=False))["fitted"][0] == [None, None]


def test_mirrored_heat_maps_are_averaged_where_they_lie():
    """The maps of a symmetric face are those of its mirror image: averaging them changes nothing."""
    face = np.asarray(load_model("face68").asm_.basis_.mean)
    face = (face + face[np.array(IBUG68.mirror)] * [-1, 1]) / 2
    units = 0.7 * (face - (face.min(0) + face.max(0)) / 2) / np.ptp(face, axis=0).max()
    drawing = PretrainedModel(Drawing(units), "test", "hourglass", {}, IBUG68, Preprocessing(size=128), None, {})
    call = (np.zeros((200, 240, 3), np.uint8), [60, 40, 160, 140])
    (plain,), (averaged,) = (Predictor(drawing)(*call, n_passes=1, flip_average=flip) for flip in (False, True))
    np.testing.assert_allclose(averaged.landmarks, plain.landmarks, atol=1e-3)
    np.testing.assert_allclose(averaged.fitted, plain.fitted, atol=1e-3)


class Slope(Corners):
    """Also says that depth grows to the right, and knows the mirror image from the image by its dark left edge."""

    def forward(self, images):
        depth = torch.tensor([-0.5, 0.5, 0.5, -0.5, 0.0]).expand(len(images), 5)
        return Corners.forward(self, images)._replace(depth=depth * (1 + images[:, 0, 0, :1].sign()))


def test_depths_are_pixels_of_the_photograph_and_average_over_the_mirror_image():
    image = np.full((80, 100, 3), 255, np.uint8)
    image[:, :35] = 0  # crops begin dark, mirrored ones bright: there depth is twice as steep
    slope = predictor(Slope())
    (face,) = slope(image, [20, 10, 50, 30])
    np.testing.assert_allclose(face.depth, [0, 0, 0, 0, 0])
    scheme = LandmarkScheme("square", 5, mirror=[1, 0, 3, 2, 4])
    mirrored = Predictor(replace(slope.model, scheme=scheme))
    (face,) = mirrored(image, [20, 10, 50, 30], flip_average=True)
    np.testing.assert_allclose(face.depth, np.array([15, -15, -15, 15, 0]) * 1.0)
    assert face.to_dict()["depth"] == [15, -15, -15, 15, 0]
    assert predictor(Corners())(image, [20, 10, 50, 30])[0].depth is None


@pytest.mark.parametrize("margin", [1.0, 1.3, 4.0])
@pytest.mark.parametrize("spot", [(30, 20), (45, 33), (0, 0), (99, 79)])
def test_crops_and_landmarks_share_one_frame(margin, spot):
    image = np.zeros((80, 100), np.uint8)
    image[spot[1], spot[0]] = 255
    box = np.array([spot[0] - 12.0, spot[1] - 9.0, spot[0] + 7.0, spot[1] + 15.0])
    (face,) = predictor(Brightest(), margin=margin)(image, box)
    pixel = 24 * margin / 64  # one pixel of the crop
    np.testing.assert_allclose(face.landmarks[0], spot, atol=max(0.51, 0.51 * pixel))


def test_large_photographs_are_not_undersampled():
    """A checkerboard of single pixels becomes even grey, not a pattern of aliases."""
    image = np.indices((512, 512)).sum(0) % 2 * np.uint8(255)

    spread = []

    class Contrast(Brightest):
        def forward(self, images):
            spread.append(float(images.std()))
            return super().forward(images)

    predictor(Contrast())(image.astype(np.uint8), [0.3, 0.3, 511.3, 511.3])
    assert spread[0] < 0.2


def test_predictor_agrees_with_the_packed_path(face_net):
    """The same crop from an image and from packed images, up to the two ways of resampling."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (12, 12, 3)).astype(np.uint8)
    image = np.kron(coarse, np.ones((16, 16, 1), np.uint8))
    points = make_faces(1, rng=1)
    points = 60 + 70 * (points - points.min((0, 1))) / np.ptp(points)
    data = LandmarkDataset.from_arrays(image[None], points)
    expected, pose = predict_dataset(face_net.network, data, face_net.model.preprocessing)
    (face,) = face_net(image, data.boxes, n_passes=1)
    assert np.abs(face.landmarks - expected[0]).max() < 0.5
    np.testing.assert_allclose(face.pose, pose[0], atol=1.0)


@pytest.mark.parametrize("name", ["asmnet", "mobilenetv2", "hourglass", "efficientnet-b0"])
def test_fused_norms_change_nothing_but_the_time(name):
    if name not in network_names():
        pytest.skip(f"no network {name}")
    torch.manual_seed(0)
    network = build_network(name, 5)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.1, 0.1)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
            nn.init.uniform_(part.weight, 0.5, 1.5)
    network.eval()
    fused = fuse_norms(network)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(fused(images).landmarks, network(images).landmarks, atol=1e-4, rtol=1e-3)
    n_norms = sum(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
    assert n_norms == 0 or name == "hourglass"
    assert any(isinstance(m, nn.BatchNorm2d) for m in network.modules())  # the original is untouched


def test_faces_come_in_the_order_of_the_boxes_and_batches_change_nothing(face_net):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (90, 70 + 10 * i, 3)).astype(np.uint8) for i in range(3)]
    boxes = [[[10, 10, 40, 50], [30, 20, 60, 60]], [], [[5, 5, 50, 50]]]
    together = face_net(images, boxes, n_passes=1)
    assert [len(faces) for faces in together] == [2, 0, 1]
    for image, own, faces in zip(images, boxes, together, strict=True):
        alone = face_net(image, own, batch_size=1, n_passes=1)
        for a, b in zip(alone, faces, strict=True):
            np.testing.assert_allclose(a.landmarks, b.landmarks, atol=1e-3)
            np.testing.assert_allclose(a.box, b.box)


def test_flip_average_is_symmetric(face_net):
    """With averaging, the mirror image gives the mirrored landmarks and pose."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (80, 100, 3)).astype(np.uint8)
    box = np.array([20.0, 15.0, 70.0, 65.0])
    (face,) = face_net(image, box, flip_average=True, n_passes=1)
    (mirror,) = face_net(image[:, ::-1], [99 - 70.0, 15.0, 99 - 20.0, 65.0], flip_average=True, n_passes=1)
    np.testing.assert_allclose(mirror.landmarks, IBUG68.flip(face.landmarks, width=100), atol=1e-3)
    np.testing.assert_allclose(mirror.pose, face.pose * [-1, 1, -1], atol=1e-3)
    (plain,) = face_net(image, box, n_passes=1)
    assert np.abs(plain.landmarks - face.landmarks).max() > 1e-6


def test_shape_model_gives_projection_and_plausibility(face_net):
    (face,) = face_net(np.zeros((80, 100), np.uint8), [20, 15, 70, 65], n_passes=1)
    model = load_model("face68")
    np.testing.assert_allclose(face.fitted, model.project(face.landmarks), atol=1e-9)
    report = model.report(face.landmarks)
    assert face.plausibility == pytest.approx(float(report.plausibility))
    assert face.clipped_modes == tuple(np.flatnonzero(report.clipped))
    assert face.pose_convention
    words = json.loads(json.dumps(face.to_dict()))
    assert words["pose"]["unit"] == "degrees"
    assert len(words["fitted"]) == 68


def test_further_passes_use_the_turned_box_of_the_landmarks(face_net):
    image = np.random.default_rng(0).integers(0, 255, (80, 100, 3)).astype(np.uint8)
    box = [18.0, 12.0, 72.0, 66.0]
    (first,) = face_net(image, box, n_passes=1)
    (second,) = face_net(image, box, n_passes=2)
    assert first.turn == 0
    angle = np.deg2rad(second.turn)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = (second.box[:2] + second.box[2:]) / 2
    upright = (first.landmarks - middle) @ rotation
    np.testing.assert_allclose([*upright.min(0), *upright.max(0)], second.box - np.tile(middle, 2), atol=1e-9)


def test_a_look_near_landmarks_is_the_second_look_of_a_face(face_net):
    images = list(np.random.default_rng(0).integers(0, 255, (2, 80, 100, 3)).astype(np.uint8))
    box = [18.0, 12.0, 72.0, 66.0]
    first = [face_net(image, box, n_passes=1)[0].landmarks for image in images]
    second = [face_net(image, box, n_passes=2)[0] for image in images]
    together = face_net(images, initial=[first[0], first[1:]], n_passes=1)
    for (found,), expected in zip(together, second, strict=True):
        np.testing.assert_allclose(found.landmarks, expected.landmarks, atol=1e-4)
        assert found.turn == pytest.approx(expected.turn)


class Bars(nn.Module):
    """Sees three coloured spots, wherever they are, but only in faces turned by less than 50 degrees."""

    n_landmarks = 3

    def forward(self, images):
        h, w = images.shape[2:]
        y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
        weight = (images - images.amin((2, 3), keepdim=True)) ** 4 + 1e-12
        total = weight.sum((2, 3))
        points = torch.stack([(weight * x).sum((2, 3)) / total / w, (weight * y).sum((2, 3)) / total / h], -1) - 0.5
        down = points[:, 2] - points[:, :2].mean(1)
        upright = (torch.atan2(down[:, 0], down[:, 1]).abs() < np.deg2rad(50))[:, None, None]
        guess = torch.tensor([[-0.3, -0.2], [0.3, -0.2], [0.0, 0.3]]) + 0.15 * torch.randn(3, 2, generator=self.noise)
        pose = torch.tensor([[0.0, 0.0, 0.0]]).expand(len(images), 3)
        return Prediction(torch.where(upright, points, guess), pose)

    noise = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("degrees", [0, 20, 40, 75, 90, 135, 180, -60, -90, -150])
def test_faces_turned_by_any_angle_are_found_and_their_pose_turned_back(degrees):
    angle = np.deg2rad(degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    upright = np.array([[-30.0, -20.0], [30.0, -20.0], [0.0, 30.0]])
    truth = upright @ rotation.T + [100.0, 90.0]
    y, x = np.mgrid[:180, :200]
    spots = np.exp(-((x[..., None] - truth[:, 0]) ** 2 + (y[..., None] - truth[:, 1]) ** 2) / 18)
    image = (255 * spots).astype(np.uint8)
    rng = np.random.default_rng(0)
    shapes = upright / 78 + 0.01 * rng.normal(size=(60, 3, 2))
    model = PretrainedModel(Bars(), "test", "asmnet", {}, None, Preprocessing(size=64), ASM(0.9).fit(shapes).basis_, {})
    (face,) = Predictor(model)(image, [*truth.min(0), *truth.max(0)])
    np.testing.assert_allclose(face.landmarks, truth, atol=1.0)
    if degrees != 20:  # that is near what is left as it is
        assert abs((face.turn - degrees + 180) % 360 - 180) < 3
    assert abs((face.roll - face.turn + 180) % 360 - 180) < 1e-6  # in its crop this face is always upright


def test_a_strange_shape_is_looked_at_in_other_orientations_though_two_looks_agree():
    """Of 259 faces turned by 90 degrees, light-68 lost two that it looked at twice alike."""
    upright = np.array([[-30.0, -20.0], [30.0, -20.0], [0.0, 30.0]])
    truth = upright @ [[0.0, 1.0], [-1.0, 0.0]] + [100.0, 90.0]
    strange = upright * [0.3, 1.0] + [100.0, 90.0]
    basis = ASM(0.9).fit(upright / 78 + 0.01 * np.random.default_rng(0).normal(size=(60, 3, 2))).basis_
    looks = []

    def look(owner, crops):
        looks.append(len(owner))
        right = np.cos(crops.turns - np.pi / 2) > 0.7
        wrong = strange + 0.3 * (-1) ** len(looks)  # two looks differ by 0.01 of its size
        return Answers(np.where(right[:, None, None], truth, wrong))

    crops = Crops.of_boxes(np.array([[*truth.min(0), *truth.max(0)]]))
    _, answer = Settling(Preprocessing(size=64), basis, upright)(look, np.zeros(1, int), crops, None)
    np.testing.assert_allclose(answer.landmarks[0], truth)
    looks.clear()
    Settling(Preprocessing(size=64), basis, upright)(look, np.zeros(1, int), crops, None, known=True)
    assert len(looks) == 2  # where the orientation is known, no other one is tried


@pytest.mark.parametrize("degrees", [0, 45, 90, 178, -120])
@pytest.mark.parametrize(("shift", "again"), [(3.0, False), (14.0, True)])
def test_a_face_near_its_landmarks_is_looked_at_again_where_it_has_moved(degrees, shift, again, monkeypatch):
    upright = np.array([[-30.0, -20.0], [30.0, -20.0], [0.0, 30.0]])
    truth, before = (
        upright @ [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]] + [x, 90.0]
        for angle, x in ((np.deg2rad(degrees), 100.0), (np.deg2rad(degrees + 3), 100.0 + shift))
    )
    y, x = np.mgrid[:180, :200]
    spots = np.exp(-((x[..., None] - truth[:, 0]) ** 2 + (y[..., None] - truth[:, 1]) ** 2) / 18)
    shapes = upright / 78 + 0.08 * np.random.default_rng(0).normal(size=(60, 3, 2))
    model = PretrainedModel(Bars(), "test", "asmnet", {}, None, Preprocessing(size=64), ASM(0.9).fit(shapes).basis_, {})
    looks, forward = [], Bars.forward
    monkeypatch.setattr(Bars, "forward", lambda self, images: looks.append(len(images)) or forward(self, images))
    (face,) = Predictor(model)((255 * spots).astype(np.uint8), initial=before)
    np.testing.assert_allclose(face.landmarks, truth, atol=1.0)
    assert abs((face.turn - degrees + 180) % 360 - 180) < 5
    assert (len(looks) > 1) == again


@pytest.mark.parametrize("size", [16, 64])
@pytest.mark.parametrize("turn", [0.0, 0.4, -1.3, np.pi])
def test_turned_crops_lie_where_they_say(turn, size):
    """The same frame turned or not: a bright spot in the image is found at its place in the crop."""
    image = np.zeros((300, 260, 3), np.uint8)
    y, x = np.mgrid[:300, :260]
    spot = np.array([150.0, 110.0])
    image[:] = (255 * np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / 200))[..., None]
    centre, extents = np.array([130.0, 120.0]), np.array([120.0, 90.0])
    box = torch.from_numpy(np.concatenate([centre - extents / 2, centre + extents / 2]))[None]
    frames = crop_transform(box, margin=1.0, square=False, turns=torch.tensor([turn], dtype=torch.float64))
    crop = cut_faces([image], frames, size)[0, 0].double().numpy()
    v, u = np.mgrid[:size, :size]
    found = np.array([(crop * u).sum(), (crop * v).sum()]) / crop.sum()
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    units = ((spot - centre) @ rotation) / extents
    np.testing.assert_allclose(found, (units + 0.5) * size - 0.5, atol=0.15)


def test_faces_are_searched_for_where_the_box_is_none(monkeypatch):
    call = predictor(Corners())
    monkeypatch.setattr(Predictor, "detect", lambda self, image: np.array([[10.0, 10.0, 50.0, 50.0]]))
    image = np.zeros((80, 100), np.uint8)
    first, second, third = call([image] * 3, [None, [[20, 10, 50, 30], [1, 1, 9, 9]], []], n_passes=1)
    np.testing.assert_array_equal(first[0].box, [10, 10, 50, 50])
    np.testing.assert_array_equal(second[0].box, [20, 10, 50, 30])
    assert (len(second), len(third)) == (2, 0)


def test_views_average_over_shifted_and_scaled_crops(face_net):
    """Views that undo each other: the corners of the crop average to those of the plain crop."""
    image = np.random.default_rng(0).integers(0, 255, (80, 100, 3)).astype(np.uint8)
    (face,) = predictor(Corners())(image, [20, 10, 50, 30], n_views=7)
    np.testing.assert_allclose(face.landmarks, [[20, 5], [50, 5], [50, 35], [20, 35], [35, 20]])
    (one,), (seven,) = (face_net(image, [18, 12, 72, 66], n_views=n, n_passes=1) for n in (1, 7))
    assert 0 < np.abs(one.landmarks - seven.landmarks).max() < 5
    with pytest.raises(ValueError, match="1 to 7"):
        face_net(image, [18, 12, 72, 66], n_views=8)


@pytest.mark.parametrize(
    "image",
    [
        np.full((20, 30), 128, np.uint8),
        np.full((20, 30, 1), 128, np.uint8),
        np.full((20, 30, 3), 128, np.uint8),
        np.full((20, 30, 4), [128, 128, 128, 255], np.uint8),
        np.full((20, 30), 128 * 257, np.uint16),
        np.full((20, 30, 3), 128 / 255, np.float32),
        np.full((20, 30), 128, np.int64),
        torch.full((20, 30, 3), 128, dtype=torch.uint8),
        np.full((20, 30, 3), 128, np.uint8)[::-1, ::-1],
    ],
)
def test_images_of_all_kinds(image):
    out = as_rgb(image)
    assert out.shape == (20, 30, 3)
    assert out.dtype == np.uint8
    assert bool((out == 128).all())


def test_pil_images_and_transparency():
    from PIL import Image

    for mode, expected in (("L", 128), ("RGB", 128), ("CMYK", None), ("P", None), ("1", 255)):
        out = as_rgb(Image.new(mode, (30, 20), 128 if mode in ("L", "P", "1") else (128,) * len(mode)))
        assert out.shape == (20, 30, 3)
        assert expected is None or bool((out == expected).all())
    half = np.zeros((4, 4, 4), np.uint8)
    half[..., 0], half[..., 3] = 200, 128
    assert as_rgb(half)[0, 0].tolist() == [100, 0, 0]
    assert as_rgb(np.ones((4, 4), bool)).min() == 255


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((3, 40, 40), np.uint8), "channels belong last"),
        (np.zeros((2, 2, 2, 3), np.uint8), "expected"),
        (np.zeros((1, 9), np.uint8), "at least 2 x 2"),
        (np.zeros((0, 0, 3), np.uint8), r"shape \(0, 0, 3\)"),
        (np.full((4, 4), 200.0), r"maximum=255"),
        (np.full((4, 4), -0.1), "0 to 1"),
        (np.full((4, 4), np.nan), "NaN"),
        (np.full((4, 4), 300), "0 to 255"),
        (np.zeros((4, 4), complex), "expected numbers"),
    ],
)
def test_wrong_images_are_refused(image, words):
    with pytest.raises(ValueError, match=words):
        as_rgb(image)


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ([1, 2, 3], r"expected \(k, 4\)"),
        ([30, 10, 20, 40], "x0 < x1"),
        ([10, 10, 10, 40], "x0 < x1"),
        ([-50, 10, -5, 40], "outside its image"),
        ([120, 10, 150, 40], "outside its image"),
        ([np.nan, 1, 2, 3], "NaN"),
        ([0.2, 0.2, 0.8, 0.8], "fractions of the image"),
        ([-1e4, -1e4, 1e4, 1e4], "part of the image"),
        ([-1e300, -1e300, 1e300, 1e300], "expected pixels, up to"),
        ([10, 10, 10.001, 10.001], "at least 4"),
    ],
)
def test_wrong_boxes_are_refused(boxes, words):
    with pytest.raises(ValueError, match=words):
        predictor(Corners())(np.zeros((80, 100), np.uint8), boxes)


BAD_BOXES = {
    "NaN": [np.nan, 1, 2, 3],
    "swapped": [70, 10, 40, 40],
    "outside": [120, 10, 150, 40],
    "fractions": [0.2, 0.2, 0.8, 0.8],
    "tiny": [10, 10, 10.001, 10.001],
    "huge": [-1e4, -1e4, 1e4, 1e4],
}


@pytest.mark.parametrize("name", BAD_BOXES)
def test_a_bad_box_leaves_its_neighbours_as_they_are(name, face_net):
    image = np.random.default_rng(0).integers(0, 255, (80, 100, 3)).astype(np.uint8)
    first, last = [18, 12, 72, 66], [30, 20, 80, 75]
    bad, good = BAD_BOXES[name], face_net(image, [first, last])
    faces = face_net(image, [first, bad, last])
    assert [face.status for face in faces] == ["ok", "error", "ok"]
    for face, alone in zip((faces[0], faces[2]), good, strict=True):
        np.testing.assert_allclose(face.landmarks, alone.landmarks, atol=1e-3)
        np.testing.assert_allclose(face.fitted, alone.fitted, atol=1e-3)
        np.testing.assert_array_equal(face.box, alone.box)
    failed = faces[1]
    np.testing.assert_array_equal(failed.box, bad)
    assert failed.landmarks.shape == failed.fitted.shape == (68, 2)
    assert np.isnan(failed.landmarks).all()
    assert failed.message.startswith("boxes[1]: got")
    assert json.loads(json.dumps(failed.to_dict(), allow_nan=False))["status"] == "error"
    # in a list of images too, where a single face of an image is no single face asked for
    batch = face_net([image, image, image], [[first], [bad], [last]])
    assert [face.status for (face,) in batch] == ["ok", "error", "ok"]
    np.testing.assert_allclose(batch[2][0].landmarks, good[1].landmarks, atol=1e-3)
    assert all(face.status == "error" for face in face_net(image, [bad, bad]))


def test_a_bad_image_leaves_its_neighbours_as_they_are(face_net, tmp_path):
    image, box = np.random.default_rng(0).integers(0, 255, (80, 100, 3)).astype(np.uint8), [18, 12, 72, 66]
    (tmp_path / "broken.png").write_bytes(b"no image")
    bad = [np.full((40, 40), np.nan), tmp_path / "broken.png", tmp_path / "nowhere.png", np.zeros((1, 9), np.uint8)]
    for wrong in bad:
        first, (failed,), last = face_net([image, wrong, image], [[box], [box], [box]])
        assert (first[0].status, failed.status, last[0].status) == ("ok", "error", "ok")
        assert failed.message
        np.testing.assert_allclose(last[0].landmarks, first[0].landmarks, atol=1e-3)


def test_boxes_of_another_shape_are_refused_also_in_a_batch(face_net):
    image = np.zeros((80, 100), np.uint8)
    with pytest.raises(ValueError, match=r"expected \(k, 4\)"):
        face_net([image, image], [[[1, 2, 3]], [[10, 10, 40, 40]]])


def test_without_the_fit_only_the_network_answers(face_net, monkeypatch):
    image, box = np.random.default_rng(0).integers(0, 255, (80, 100, 3)).astype(np.uint8), [18, 12, 72, 66]
    (whole,) = face_net(image, box)
    monkeypatch.setattr(type(face_net.shape_model), "project", lambda *_, **__: pytest.fail("was fitted"))
    (raw,) = face_net(image, box, fit=False)
    np.testing.assert_array_equal(raw.landmarks, whole.landmarks)
    np.testing.assert_array_equal(raw.pose, whole.pose)
    assert whole.fitted is not None
    assert raw.fitted is None
    assert raw.covariance is None
    assert np.isnan([raw.plausibility, raw.expected_error]).all()


def test_heat_maps_are_read_once_however_often_the_network_looks(monkeypatch):
    from shape_models import search

    model = load_model("face68")
    face = np.asarray(model.asm_.basis_.mean)
    units = 0.7 * (face - (face.min(0) + face.max(0)) / 2) / np.ptp(face, axis=0).max()
    drawing = PretrainedModel(Drawing(units), "test", "hourglass", {}, IBUG68, Preprocessing(size=128), None, {})
    call, read = search.heatmap_peaks, []
    monkeypatch.setattr(search, "heatmap_peaks", lambda *args: read.append(len(args[0])) or call(*args))
    image, box = np.zeros((200, 240, 3), np.uint8), [60, 40, 160, 140]
    (found,) = Predictor(drawing)(image, box, n_passes=4)
    assert read == [1]
    assert np.isfinite(found.covariance).all()
    (raw,) = Predictor(drawing)(image, box, n_passes=4, fit=False)
    np.testing.assert_array_equal(raw.landmarks, found.landmarks)
    assert read == [1]


def test_boxes_may_reach_beyond_the_image_and_be_tiny():
    call = predictor(Corners())
    (face,) = call(np.zeros((80, 100), np.uint8), [-20, -20, 30, 30])
    np.testing.assert_allclose(face.landmarks[4], [5, 5])
    assert call(np.zeros((80, 100), np.uint8), []) == []


def test_wrong_calls_are_refused():
    call = predictor(Corners())
    image = np.zeros((20, 20), np.uint8)
    with pytest.raises(ValueError, match="n_passes"):
        call(image, [1, 1, 9, 9], n_passes=0)
    with pytest.raises(ValueError, match="batch_size"):
        call(image, [1, 1, 9, 9], batch_size=-1)
    with pytest.raises(ValueError, match="mirror map"):
        call(image, [1, 1, 9, 9], flip_average=True)
    with pytest.raises(ValueError, match="expected one for each"):
        call([image, image], [[1, 1, 9, 9]])
    with pytest.raises(ValueError, match="boxes and initial"):
        call(image, [1, 1, 9, 9], initial=np.zeros((5, 2)))
    with pytest.raises(ValueError, match=r"initial: got shape \(1, 4, 2\); expected \(k, 5, 2\)"):
        call(image, initial=np.zeros((4, 2)))
    face = call(image, [1, 1, 9, 9])[0]
    assert np.isnan(face.plausibility)
    with pytest.raises(FileNotFoundError, match="no such image file"):
        call("nowhere.png", [1, 1, 9, 9])


def test_without_boxes_faces_are_searched_for(monkeypatch):
    """Detected boxes are brought to the network's convention, and a second pass takes the box of the landmarks."""
    from shape_models.search import Detections, detection

    def found(boxes):
        answer = Detections(np.array(boxes, dtype=float).reshape(-1, 4), np.ones(len(boxes)), "retinaface")
        monkeypatch.setattr(detection, "cascade_faces", lambda image, **_: (answer.boxes, answer.scores, "retinaface"))
        monkeypatch.setattr(detection, "is_face", lambda image, boxes, **_: np.ones(len(boxes), dtype=bool))

    found([[10.0, 10.0, 50.0, 50.0]])
    image = np.zeros((80, 100), np.uint8)
    call = predictor(Corners(), LandmarkScheme("eyes", 5, anchors={"outer_eye_corners": ([0], [1])}))
    tight = call.detect(image)[0]
    np.testing.assert_allclose(tight, boxes.convert([10.0, 10.0, 50.0, 50.0], "retinaface", "landmarks"))
    np.testing.assert_allclose(call.detect(image, lambda image: ([[1, 1, 9, 9]], [1.0], "landmarks")), [[1, 1, 9, 9]])
    (face,) = call(image)
    (first,) = call(image, tight)
    np.testing.assert_allclose(face.box, [*first.landmarks.min(0), *first.landmarks.max(0)])
    found([])
    assert call(image) == []
    assert call([image, image]) == [[], []]
    other = predictor(Corners())  # whose landmarks are no face's
    with pytest.raises(ValueError, match=r"boxes: got none.*only faces are searched for"):
        other(image)
    assert len(other.detect(image, lambda image: ([[1, 1, 9, 9]], [1.0], "landmarks"))) == 1


@pytest.mark.parametrize(("shifts", "stands"), [((0.0, 0.1, 0.3), 0), ((0.0, 0.1, 0.11), 2)])
def test_looks_that_draw_apart_leave_the_first_answer(shifts, stands):
    """Where each look moves the next one further away the first stands; where they settle the last does."""
    upright = np.asarray(load_model("face68").asm_.basis_.mean)
    upright = (upright - (upright.min(0) + upright.max(0)) / 2) / np.ptp(upright, axis=0)
    answers = []

    def look(owner, crops):
        # As it is in the first crop at the first look, then off by more; farther apart in other orientations.
        step = shifts[len(answers)] if len(answers) < len(shifts) else 0.5 * len(answers)
        answers.append(np.array([[100.0, 80.0]]) + 60 * (upright + step)[None])
        return Answers(answers[-1])

    settling = Settling(Preprocessing(size=64, margin=1.0), None, upright)
    crops, found = settling(look, np.zeros(1, int), Crops.of_boxes(np.array([[70.0, 50.0, 130.0, 110.0]])), None)
    np.testing.assert_array_equal(found.landmarks, answers[stands])
    asked = tight_boxes(answers[max(stands - 1, 0)])
    np.testing.assert_allclose(crops.boxes, asked, atol=1e-6)
