"""Tracking: laws in a small world whose faces, detector and predictor are known exactly, then on images."""

import gc
import struct
import sys
import types
import weakref
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import skimage.data
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from strategies import face_picture

from shape_models import load_model, make_faces
from shape_models.search import ASMFitter, read_frames, track
from shape_models.search._looks import alike, look_of
from shape_models.search._motion import Motion

ASTRONAUT = skimage.data.astronaut()
FACE = np.array([[-1.0, -1.0], [1.0, -1.0], [0.1, 0.2], [-0.8, 1.0], [0.9, 1.0], [0.0, -0.4]])
HEIGHT, WIDTH, SIDE = 120, 200, 24


class World:
    """Faces are textured squares; a frame carries its number in its first pixels, so that the stand-ins know it."""

    def __init__(self, paths, present=None):
        self.paths = np.asarray(paths, dtype=float)  # (n_faces, n_frames, 2), the middles
        n_faces, n_frames = self.paths.shape[:2]
        self.present = np.ones((n_faces, n_frames), bool) if present is None else np.asarray(present, bool)

    def visible(self, k):
        """Faces that are there, in the image, and not behind a later one."""
        out = []
        for i in np.flatnonzero(self.present[:, k]):
            middle = self.paths[i, k]
            behind = [
                j
                for j in range(i + 1, len(self.paths))
                if self.present[j, k] and np.abs(self.paths[j, k] - middle).max() < 1.5 * SIDE
            ]
            if not behind and (middle > SIDE).all() and (middle < np.array([WIDTH, HEIGHT]) - SIDE).all():
                out.append(i)
        return out

    def frame(self, k):
        image = np.full((HEIGHT, WIDTH, 3), 127, np.uint8)
        for i in np.flatnonzero(self.present[:, k]):
            texture = np.random.default_rng(1000 + i).integers(0, 256, (6, 6, 3)).astype(np.uint8)
            texture = np.repeat(np.repeat(texture, 8, 0), 8, 1)
            x, y = np.round(self.paths[i, k]).astype(int) - 24
            x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + 48, WIDTH), min(y + 48, HEIGHT)
            if x0 < x1 and y0 < y1:
                image[y0:y1, x0:x1] = texture[y0 - y : y1 - y, x0 - x : x1 - x]
        image[0, 0] = [k // 256, k % 256, 200]
        return image

    def frames(self):
        return [self.frame(k) for k in range(self.paths.shape[1])]

    @staticmethod
    def number(image):
        return None if image[0, 0, 2] != 200 else int(image[0, 0, 0]) * 256 + int(image[0, 0, 1])

    def shape(self, i, k):
        return self.paths[i, k] + 0.5 * SIDE * FACE

    def detector(self, order=1):
        def detect(image):
            k = self.number(image)
            shapes = [] if k is None else [self.shape(i, k) for i in self.visible(k)][::order]
            return [[*s.min(0), *s.max(0)] for s in shapes], np.ones(len(shapes)), "landmarks"

        return detect

    def predictor(self, image, boxes):
        """The visible face that is nearest to each box; without one near, the middle of the box and no confidence."""
        k, out = self.number(image), []
        for box in boxes:
            middle = (box[:2] + box[2:]) / 2
            near = [] if k is None else [(np.abs(self.paths[i, k] - middle).max(), i) for i in self.visible(k)]
            best = min(near, default=(np.inf, -1))
            good = best[0] < SIDE
            shape = self.shape(best[1], k) if good else middle + 0.5 * SIDE * FACE
            out.append(types.SimpleNamespace(landmarks=shape, confidence=np.full(len(FACE), 0.9 if good else 0.1)))
        return out

    def track(self, frames=None, order=1, **options):
        return list(
            track(self.frames() if frames is None else frames, self.predictor, detector=self.detector(order), **options)
        )

    def identity(self, face, k):
        """Which face the world shows where one was measured."""
        return next(i for i in self.visible(k) if np.abs(face.measured - self.shape(i, k)).max() < 1e-9)


def straight(start, velocity, n):
    return np.asarray(start, float) + np.arange(n)[:, None] * np.asarray(velocity, float)


@st.composite
def worlds(draw, faces=(1, 3), frames=(3, 25), gaps=True):
    n, k = draw(st.integers(*faces)), draw(st.integers(*frames))
    position = st.tuples(st.integers(30, WIDTH - 30), st.integers(30, HEIGHT - 30))
    speed = st.tuples(st.integers(-4, 4), st.integers(-3, 3))
    paths = [straight(draw(position), draw(speed), k) for _ in range(n)]
    present = None
    if gaps:
        present = [draw(st.lists(st.sampled_from([True, True, True, False]), min_size=k, max_size=k)) for _ in range(n)]
    return World(paths, present)


# --- laws ------------------------------------------------------------------------------------------------------


@given(worlds())
def test_an_id_is_one_face_whatever_is_hidden_or_crosses(world):
    owners = {}
    for k, frame in enumerate(world.track(detect_every=3, max_unseen=8)):
        assert frame.index == k
        ids = [face.id for face in frame.faces]
        assert ids == sorted(set(ids))
        for face in frame.faces:
            if face.seen:
                assert owners.setdefault(face.id, world.identity(face, k)) == world.identity(face, k)
        seen = [world.identity(face, k) for face in frame.faces if face.seen]
        assert len(seen) == len(set(seen))


@given(worlds(), st.integers(1, 7))
def test_frames_before_a_stream_shift_it(world, n):
    """Empty frames, as many as the tracker waits between two looks at the whole frame, change nothing but the index."""
    empty = [np.full((HEIGHT, WIDTH, 3), 127, np.uint8)] * n
    plain = world.track(detect_every=1)
    shifted = world.track([*empty, *world.frames()], detect_every=1)
    assert all(not frame.faces for frame in shifted[:n])
    for one, other in zip(plain, shifted[n:], strict=True):
        assert other.index == one.index + n
        assert [(f.id, f.status, f.age, f.unseen) for f in one.faces] == [
            (f.id, f.status, f.age, f.unseen) for f in other.faces
        ]
        for a, b in zip(one.faces, other.faces, strict=True):
            np.testing.assert_allclose(a.landmarks, b.landmarks, rtol=0, atol=1e-4)


@given(worlds(faces=(1, 3), gaps=False))
def test_measurements_run_backwards_too(world):
    backwards = World(world.paths[:, ::-1], world.present[:, ::-1])
    there, back = (w.track(smoothing=0, detect_every=1) for w in (world, backwards))
    for k, (one, other) in enumerate(zip(there, back[::-1], strict=True)):
        assert {world.identity(f, k) for f in one.faces if f.seen} == set(world.visible(k))
        assert {world.identity(f, k) for f in other.faces if f.seen} == set(world.visible(k))


@given(worlds())
def test_the_order_of_a_detector_only_names(world):
    names = {}
    for one, other in zip(world.track(detect_every=2), world.track(order=-1, detect_every=2), strict=True):
        places = {f.landmarks.tobytes(): f.id for f in one.faces}
        assume(len(places) == len(one.faces))  # which of two faces in one place is which, only their names tell
        assert places.keys() == {f.landmarks.tobytes() for f in other.faces}
        for face in other.faces:
            own = places[face.landmarks.tobytes()]
            assert names.setdefault(face.id, own) == own


@given(st.integers(30, 170), st.integers(30, 90), st.floats(0, 4), st.integers(2, 12))
def test_what_stands_still_is_constant(x, y, smoothing, n):
    world = World([straight((x, y), (0, 0), n)])
    frames = world.track(smoothing=smoothing)
    for frame in frames:
        np.testing.assert_allclose(frame.faces[0].landmarks, world.shape(0, 0), atol=1e-9)
        assert frame.faces[0].velocity.tolist() == pytest.approx([0, 0], abs=1e-9)
    assert [frame.faces[0].status for frame in frames] == ["new"] + ["tracked"] * (n - 1)


@given(worlds(faces=(1, 2), gaps=False), st.integers(-20, 20), st.integers(-15, 15))
def test_tracks_move_with_their_image(world, dx, dy):
    """A stream whose faces all stand elsewhere gives the same tracks there."""
    moved = World(world.paths + np.array([dx, dy]), world.present)
    assume(
        all(world.visible(k) == moved.visible(k) == list(range(len(world.paths))) for k in range(len(world.paths[0])))
    )
    for one, other in zip(world.track(detect_every=1), moved.track(detect_every=1), strict=True):
        assert [f.id for f in one.faces] == [f.id for f in other.faces]
        for a, b in zip(one.faces, other.faces, strict=True):
            np.testing.assert_allclose(a.landmarks + np.array([dx, dy]), b.landmarks, atol=1e-9)
            np.testing.assert_allclose(a.covariance, b.covariance, rtol=1e-9)


def test_without_smoothing_landmarks_are_the_measurements():
    world = World([straight((40, 40), (5, 1), 15)])
    for frame in world.track(smoothing=0):
        np.testing.assert_allclose(frame.faces[0].landmarks, frame.faces[0].measured, atol=1e-9)


# --- the filter ------------------------------------------------------------------------------------------------


def test_a_shape_that_trembles_is_calmed_and_one_that_moves_is_followed(rng):
    shape, calm, rough = 30 * FACE, [], []
    motion = Motion(shape, 1.0)
    for k in range(200):
        measured = shape + np.array([2.0 * k, 0.5 * k]) + rng.normal(scale=0.4, size=FACE.shape)
        motion.advance(seen=True)
        motion.measure(measured)
        calm.append(motion.shape - shape - [2.0 * k, 0.5 * k])
        rough.append(measured - shape - [2.0 * k, 0.5 * k])
    calm, rough = np.array(calm[20:]), np.array(rough[20:])
    assert np.abs(np.diff(calm, 2, axis=0)).mean() < 0.5 * np.abs(np.diff(rough, 2, axis=0)).mean()
    assert np.linalg.norm(calm, axis=-1).mean() < 0.9 * np.linalg.norm(rough, axis=-1).mean()
    assert np.abs(calm.mean(axis=0)).max() < 0.15
    np.testing.assert_allclose(motion.velocity, [2.0, 0.5], atol=0.2)
    assert (motion.variance > 0).all()


def test_a_jump_is_followed_at_once():
    shape = 30 * FACE
    motion = Motion(shape, 1.0)
    for _ in range(20):
        motion.advance(seen=True)
        motion.measure(shape)
    off = []
    for _ in range(8):
        motion.advance(seen=True)
        motion.measure(shape + 20)
        off.append(np.abs(motion.shape - shape - 20).max())
    assert off[0] < 12
    assert off[-1] < 2


def test_what_is_not_seen_gets_less_certain_and_goes_on():
    motion = Motion(30 * FACE, 1.0)
    for k in range(1, 20):
        motion.advance(seen=True)
        motion.measure(30 * FACE + np.array([k, 0]))
    before, place = motion.variance, motion.shape
    for _ in range(10):
        motion.advance(seen=False)
        assert (motion.variance > before).all()
        before = motion.variance
    moved = (motion.shape - place).mean(0)
    assert 4 < moved[0] < 10
    assert abs(moved[1]) < 0.1


def test_similarities_of_the_stream_are_those_of_the_filter(rng):
    """The filter knows no direction, size or place: turned, scaled and moved measurements give the same, so changed."""
    turn, by = 1.7 * np.array([[0.8, -0.6], [0.6, 0.8]]), np.array([40.0, -7.0])
    one, other = Motion(30 * FACE, 1.0), Motion(30 * FACE @ turn.T + by, 1.0)
    for k in range(30):
        measured = 30 * FACE + np.array([k, 0.2 * k]) + rng.normal(scale=0.5, size=FACE.shape)
        for motion, shape in ((one, measured), (other, measured @ turn.T + by)):
            motion.advance(seen=True)
            motion.measure(shape)
    # The gain rises for x and y by themselves, so that a turn changes it a little.
    np.testing.assert_allclose(one.shape @ turn.T + by, other.shape, atol=0.3)


# --- events ----------------------------------------------------------------------------------------------------


def test_two_faces_that_cross_keep_their_ids():
    n = 40
    world = World([straight((40, 60), (3, 0), n), straight((160, 64), (-3, 0), n)])
    frames = world.track(detect_every=5)
    hidden = [k for k in range(n) if world.visible(k) == [1]]
    assert len(hidden) > 3
    owners = {face.id: world.identity(face, 0) for face in frames[0].faces}
    assert sorted(owners.values()) == [0, 1]
    for k, frame in enumerate(frames):
        assert [face.id for face in frame.faces] == [0, 1]
        for face in frame.faces:
            assert not face.seen or world.identity(face, k) == owners[face.id]
    behind = next(id_ for id_, i in owners.items() if i == 0)
    assert {frames[k].faces[behind].status for k in hidden} == {"predicted"}
    assert all(face.seen for face in frames[-1].faces)
    assert "recovered" in [frame.faces[behind].status for frame in frames]


def test_loss_and_recovery_are_said():
    n = 30
    present = np.ones((1, n), bool)
    present[0, 8:13] = present[0, 20:] = False
    world = World([straight((40, 60), (2, 0), n)], present)
    frames = world.track(max_unseen=6, detect_every=4)
    status = [frame.faces[0].status if frame.faces else "" for frame in frames]
    assert status[0] == "new"
    assert status[8:13] == ["predicted"] * 5
    assert status[13] == "recovered"
    assert status[14:20] == ["tracked"] * 6
    assert status[20:] == ["predicted"] * 6 + ["lost"] + [""] * 3
    predicted = frames[10].faces[0]
    assert predicted.unseen == 3
    assert np.isnan(predicted.measured).all()
    assert (predicted.confidence == 0).all()
    assert np.linalg.norm(predicted.landmarks.mean(0) - world.shape(0, 10).mean(0)) < 4
    spread = [np.trace(frames[k].faces[0].covariance[0]) for k in range(7, 13)]
    assert (np.diff(spread) > 0).all()
    assert frames[13].faces[0].unseen == 0


def test_another_face_in_the_place_of_a_lost_one_gets_an_id_of_its_own():
    n = 20
    present = np.zeros((2, n), bool)
    present[0, :8] = present[1, 10:] = True
    world = World([straight((90, 60), (0, 0), n)] * 2, present)
    frames = world.track(detect_every=2)
    for k, frame in enumerate(frames):
        for face in frame.faces:
            if face.seen:
                assert face.id == world.identity(face, k)
    assert frames[-1].faces[-1].id == 1
    assert frames[-1].faces[-1].seen


def test_a_bad_frame_harms_no_other():
    world = World([straight((60, 60), (1, 0), 9)])
    frames = world.frames()
    frames[4], frames[5] = "no-such-file.png", np.full((120, 160), np.nan)
    out = world.track(frames)
    assert [frame.status for frame in out] == ["ok"] * 4 + ["error"] * 2 + ["ok"] * 3
    assert "no such image file" in out[4].message
    assert [frame.faces[0].status for frame in out[4:7]] == ["predicted", "predicted", "recovered"]
    assert {frame.faces[0].id for frame in out} == {0}


def test_no_more_faces_than_asked_for():
    world = World([straight((40, 60), (0, 0), 6), straight((150, 60), (0, 0), 6)])
    assert {len(frame.faces) for frame in world.track(max_faces=1)} == {1}
    assert {len(frame.faces) for frame in world.track()} == {2}


def test_a_stream_is_read_as_it_goes_and_not_kept():
    world = World([straight((60, 60), (0, 0), 200)])
    alive, read = [], []

    class Frame(np.ndarray):
        pass

    def frames():
        for k in range(200):
            frame = world.frame(k).view(Frame)
            alive.append(weakref.ref(frame))
            read.append(k)
            yield frame

    stream = track(frames(), world.predictor, detector=world.detector())
    assert not read
    for k, frame in enumerate(stream):
        assert frame.index == k == read[-1]
        if k % 50 == 49:
            gc.collect()
            assert sum(ref() is not None for ref in alive) <= 3


def test_records_cannot_be_changed():
    face = World([straight((60, 60), (0, 0), 2)]).track()[0].faces[0]
    with pytest.raises(FrozenInstanceError):
        face.id = 3
    np.testing.assert_allclose(face.box, [*face.landmarks.min(0), *face.landmarks.max(0)])


# --- bad input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"smoothing": -1}, ValueError, "smoothing: got -1"),
        ({"smoothing": "much"}, ValueError, "smoothing: got 'much'"),
        ({"detect_every": 0}, ValueError, "detect_every: got 0"),
        ({"max_unseen": 1.5}, ValueError, "max_unseen: got 1.5"),
        ({"max_faces": True}, ValueError, "max_faces: got True"),
        ({"min_confidence": 2}, ValueError, "min_confidence: got 2"),
        ({"predictor": 3}, TypeError, "predictor: got int"),
        ({"predictor": ASMFitter()}, ValueError, "that is not fitted"),
        ({"detector": "retina"}, ValueError, "expected one of scikit-image"),
        ({"judge": len}, TypeError, "judge: got builtin"),
        ({"frames": 7}, TypeError, "frames: got int"),
        ({"frames": ASTRONAUT}, TypeError, "got one image of shape"),
        ({"frames": ASTRONAUT[..., :1]}, TypeError, "got one image of shape"),
        ({"frames": Image.fromarray(ASTRONAUT)}, TypeError, "got one image"),
        ({"frames": "nowhere.mp4"}, FileNotFoundError, "got no such file or folder"),
    ],
)
def test_arguments_are_checked_at_the_call(options, error, message):
    with pytest.raises(error, match=message):
        track(**{"frames": [], **options})


@pytest.mark.parametrize(
    "answer", [None, [], [np.zeros((2, 2))], [np.zeros((5, 3))], ["landmarks"], [np.zeros((5, 2))] * 2]
)
def test_nonsense_of_a_predictor_is_named(answer):
    world = World([straight((60, 60), (0, 0), 2)])
    with pytest.raises((ValueError, TypeError), match="predictor: got"):
        list(track(world.frames(), lambda image, boxes: answer, detector=world.detector()))


def test_landmarks_without_a_judge_count_as_seen():
    world = World([straight((60, 60), (1, 0), 5)])

    def bare(image, boxes):
        return np.array([answer.landmarks for answer in world.predictor(image, boxes)])

    frames = list(track(world.frames(), bare, detector=world.detector()))
    assert all(frame.faces[0].seen and np.isnan(frame.faces[0].confidence).all() for frame in frames)


# --- videos ----------------------------------------------------------------------------------------------------


def test_folders_are_read_in_natural_order(tmp_path):
    for k in (10, 2, 1):
        Image.fromarray(np.full((20, 30), k, np.uint8)).save(tmp_path / f"frame_{k}.png")
    (tmp_path / "notes.txt").write_text("none")
    assert [path.name for path in read_frames(tmp_path)] == ["frame_1.png", "frame_2.png", "frame_10.png"]
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="got no image in this folder"):
        read_frames(empty)


def test_animated_images_are_videos(tmp_path):
    frames = [Image.fromarray(np.full((20, 30, 3), 40 * k, np.uint8)) for k in range(4)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    read = list(read_frames(tmp_path / "a.gif"))
    assert [frame.shape for frame in read] == [(20, 30, 3)] * 4
    assert [int(frame.mean().round(-1)) for frame in read] == [0, 40, 80, 120]


def test_a_video_needs_its_package(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"Try pip install 'shape-models\[video\]', or give a folder of frames"):
        read_frames(tmp_path / "a.mp4")


def write_video(path, frames):
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)


def test_video_files(tmp_path):
    frames = np.stack([np.roll(ASTRONAUT[:240, 100:420], 4 * k, axis=1) for k in range(6)])
    write_video(tmp_path / "a.mp4", frames)
    read = list(read_frames(tmp_path / "a.mp4"))
    assert len(read) == 6
    assert np.abs(read[3].astype(int) - frames[3]).mean() < 12
    (tmp_path / "b.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match="got no video that can be read"):
        read_frames(tmp_path / "b.mp4")


def test_a_film_of_a_telephone_is_turned_upright(tmp_path):
    frames = np.zeros((3, 48, 80, 3), np.uint8)
    frames[:, :20, :30] = 250  # in the upper left
    write_video(tmp_path / "a.mp4", frames)
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    header = data.find(b"tkhd") + 4
    matrix = header + (52 if data[header] else 40)
    quarter = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)  # to be shown turned clockwise
    data[matrix : matrix + len(quarter)] = quarter
    (tmp_path / "b.mp4").write_bytes(data)
    upright, turned = next(read_frames(tmp_path / "a.mp4")), next(read_frames(tmp_path / "b.mp4"))
    assert upright.shape == (48, 80, 3)
    np.testing.assert_array_equal(turned, np.rot90(upright, -1))
    assert turned[5, -5].min() > 200


# --- images -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def search():
    return load_model("search68")


def test_a_face_that_moves_and_is_covered(search):
    truth = search.predict(ASTRONAUT).shape
    frames = [np.roll(ASTRONAUT, 3 * k, axis=1) for k in range(16)]
    for k in range(6, 9):
        frames[k] = frames[k].copy()
        frames[k][60:200, 150:320] = 120
    out = list(track(frames, search))
    assert {face.id for frame in out for face in frame.faces} == {0}
    assert [frame.faces[0].seen for frame in out] == [not 6 <= k < 9 for k in range(16)]
    for k in (3, 5, 12, 15):
        assert np.linalg.norm(out[k].faces[0].landmarks - truth - [3 * k, 0], axis=1).mean() < 2.5
    assert np.linalg.norm(out[8].faces[0].landmarks - truth - [24, 0], axis=1).mean() < 8


def test_frames_that_stand_still_give_constant_landmarks(search):
    out = list(track([ASTRONAUT] * 12, search))
    last = np.array([frame.faces[0].landmarks for frame in out[6:]])
    assert np.abs(last - last[0]).max() < 0.05


def test_any_predictor_of_68_landmarks_is_judged_by_the_image(search):
    box = np.array([177, 82, 274, 172])
    shape = search.predict(ASTRONAUT, boxes=box).shape
    wall = np.full_like(ASTRONAUT, 90)
    wall[::7] = 140

    def stubborn(image, boxes):
        return np.repeat(shape[None], len(boxes), axis=0)

    def detect(image):
        return box[None], [1.0], "landmarks"

    out = list(track([ASTRONAUT, ASTRONAUT, wall, ASTRONAUT], stubborn, detector=detect))
    assert [frame.faces[0].status for frame in out] == ["new", "tracked", "predicted", "recovered"]


def test_looks_tell_faces_apart():
    rng = np.random.default_rng(0)
    box = np.array([177, 82, 274, 172])
    one = look_of(ASTRONAUT, box)
    assert alike(one, look_of(ASTRONAUT, box + rng.normal(scale=2, size=4))) > 0.85
    assert alike(one, look_of(0.6 * ASTRONAUT + 30, box)) > 0.95
    assert alike(one, look_of(ASTRONAUT, box + 150)) < 0.6
    grey = ASTRONAUT.mean(-1)
    assert alike(look_of(grey, box), look_of(grey, box)) == pytest.approx(1)
    assert np.isfinite(look_of(np.zeros((5, 5)), np.array([-10, -10, 40, 40]))).all()


def test_an_object_without_a_detector_is_found_where_such_objects_stand(rng):
    shapes = 0.4 * make_faces(20, rng=0)
    fitter = ASMFitter(evidence="profiles", n_levels=2).fit([face_picture(s) for s in shapes], shapes)
    frames = [face_picture(shapes[0] + np.array([0.5 * k, 0.0])) for k in range(6)]
    out = list(track(frames, fitter, min_confidence=0.3))
    assert [[face.id for face in frame.faces] for frame in out] == [[0]] * 6
    for k, frame in enumerate(out):
        assert np.linalg.norm(frame.faces[0].landmarks - shapes[0] - np.array([0.5 * k, 0.0]), axis=1).mean() < 4


@pytest.mark.parametrize("frames", [{"b": ASTRONAUT, "a": ASTRONAUT}, {"a.png", "b.png"}])
def test_frames_without_an_order_are_refused(frames):
    with pytest.raises(TypeError, match=r"frames: got (dict|set); expected the images in their order"):
        track(frames)


@pytest.mark.parametrize("n_landmarks", [5, 70])
def test_a_predictor_that_changes_its_landmarks_is_named(n_landmarks, rng):
    box, calls = np.array([177.0, 82.0, 274.0, 172.0]), []

    def fickle(image, boxes):
        calls.append(len(boxes))
        n = 68 if len(calls) == 1 else n_landmarks
        return [rng.uniform(0, 90, size=(n, 2)) + box[:2] for _ in boxes]

    frames = track([ASTRONAUT] * 3, fickle, detector=lambda image: (box[None], [1.0], "landmarks"), min_confidence=0)
    with pytest.raises(ValueError, match=f"predictor: got {n_landmarks} landmarks, and 68 in frames before"):
        list(frames)


def test_a_predictor_is_told_that_no_fit_is_needed():
    box, told = np.array([177.0, 82.0, 274.0, 172.0]), []

    def fitting(image, boxes, *, fit=True):
        told.append(fit)
        return load_model("search68").predict([image] * len(boxes), boxes=list(boxes), n_turns=1)

    def predict(image, boxes, *, fit=True):
        return [answer.shape for answer in fitting(image, boxes, fit=fit)]

    (frame,) = track([ASTRONAUT], predict, detector=lambda image: (box[None], [1.0], "landmarks"))
    assert [face.status for face in frame.faces] == ["new"]
    assert told == [False]


def test_a_predictor_that_takes_landmarks_is_given_those_of_faces_that_were_seen():
    box, told = np.array([177.0, 82.0, 274.0, 172.0]), []
    wall = np.full_like(ASTRONAUT, 90)
    wall[::7] = 140
    shape = load_model("search68").predict(ASTRONAUT, boxes=box).shape

    def predict(image, boxes=None, *, initial=None):
        told.append("boxes" if initial is None else "initial")
        if initial is not None:
            assert boxes is None
            np.testing.assert_allclose(initial, shape[None], atol=1.0)
        return shape[None]

    frames = [ASTRONAUT, ASTRONAUT, wall, ASTRONAUT, ASTRONAUT]
    out = list(track(frames, predict, detector=lambda image: (box[None], [1.0], "landmarks"), detect_every=10))
    assert [frame.faces[0].status for frame in out] == ["new", "tracked", "predicted", "recovered", "tracked"]
    follows = [told[0], told[1], told[2], told[-2], told[-1]]
    assert follows == ["boxes", "initial", "initial", "boxes", "initial"]
