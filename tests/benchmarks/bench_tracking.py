"""Tracking measured: how much calmer landmarks are than those of frames by themselves, how right, and how fast.

Run: SHAPE_MODELS_DATA=/path/to/data OMP_NUM_THREADS=1 python tests/benchmarks/bench_tracking.py COMMAND

`motion` moves, turns, grows and deforms images of 300-W over others, with the noise of a camera, so that the truth of
every frame is known; `crossing` lets two of them cross; `clips` takes the frames of clips that have landmarks; `looks`
says what a network gains where it begins at the landmarks of the frame before; `speed` times a stream. Errors are in
percent of the distance of the outer corners of the eyes; jitter is the mean length of the second difference of the
error, in the same unit, which is 0 for an error that stays or changes evenly.
"""

import csv
import os
import time
from collections import defaultdict
from pathlib import Path

import click
import numpy as np
from scipy.ndimage import gaussian_filter1d
from skimage.transform import SimilarityTransform, resize, warp

from shape_models import load_model, read_pts
from shape_models.images import read_image
from shape_models.search import track

DATA = Path(os.environ.get("SHAPE_MODELS_DATA", ""))
SIZE = (480, 640)


def faces(part):
    with (DATA / "300w" / "split.csv").open() as file:
        for name, _, split in csv.reader(file):
            if split == part:
                path = DATA / "300w" / name
                yield path, read_pts(path.with_suffix(".pts")).points


def stream(path, points, behind, n, rng, *, speed=1.0, noise=4.0):
    """Yield frames of a moving face and where its landmarks are; the mouth opens and closes."""
    image = np.asarray(read_image(path), dtype=np.float32)
    image = np.repeat(image[..., None], 3, 2) if image.ndim == 2 else image
    height, width = SIZE
    ground = np.resize(np.asarray(read_image(behind), dtype=np.float32).mean(-1, keepdims=True), (height, width, 1))
    ground = np.repeat(gaussian_filter1d(ground, 3, axis=1), 3, 2)
    walk = np.stack([gaussian_filter1d(rng.normal(size=n + 60), 12)[30:-30] for _ in range(4)])
    walk *= speed * 12**0.5
    side = np.ptp(points, axis=0).max()
    middle = points.mean(0)
    mouth, extent = points[48:68].mean(0), 0.22 * side
    for k in range(n):
        scale = 150 / side * np.exp(0.15 * walk[0, k])
        turn = SimilarityTransform(scale=scale, rotation=0.15 * walk[1, k])
        place = np.array([width / 2, height / 2]) + walk[2:, k] * [110, 60]
        turn = SimilarityTransform(scale=scale, rotation=0.15 * walk[1, k], translation=place - turn(middle)[0])
        opening = 0.04 * side * np.sin(0.35 * speed * k)

        def moved(xy, opening=opening):
            off = xy - mouth
            bump = np.exp(-(off**2).sum(-1, keepdims=True) / (2 * extent**2))
            return xy + np.concatenate([np.zeros_like(bump), opening * np.tanh(off[:, 1:] / (0.1 * side)) * bump], 1)

        y, x = np.mgrid[:height, :width]
        source = turn.inverse(np.stack([x.ravel(), y.ravel()], 1).astype(float))
        back = 2 * source - moved(source)  # the inverse of a small deformation, to first order
        grid = back.reshape(height, width, 2)[..., ::-1].transpose(2, 0, 1)
        frame = np.stack([warp(image[..., c], grid, order=1, cval=-1.0) for c in range(3)], -1)
        frame = np.where(frame[..., :1] < 0, ground, frame) + rng.normal(scale=noise, size=(height, width, 1))
        truth = points.copy()
        for _ in range(4):
            truth = points - (2 * truth - moved(truth) - truth)
        yield np.clip(frame, 0, 255).astype(np.uint8), turn(truth)


def eyes(shapes):
    return np.linalg.norm(shapes[..., 36, :] - shapes[..., 45, :], axis=-1)


def measured(truth, found):
    """Return the mean error and the jitter of landmarks (n_frames, 68, 2), percent."""
    off = (found - truth) / eyes(truth).mean()
    known = np.isfinite(off).all(axis=(1, 2))
    error = np.linalg.norm(off[known], axis=-1).mean()
    second = off[2:] - 2 * off[1:-1] + off[:-2]
    second = second[np.isfinite(second).all(axis=(1, 2))]
    return 100 * error, 100 * np.linalg.norm(second, axis=-1).mean()


def alone(model, frames, truth):
    """Search each frame by itself, from a box that is off as those of a detector are."""
    rng = np.random.default_rng(0)
    out = []
    for frame, shape in zip(frames, truth, strict=True):
        box = np.concatenate([shape.min(0), shape.max(0)])
        box = box + rng.normal(scale=0.03, size=4) * (box[2:] - box[:2]).max()
        out.append(model(frame, box))
    return np.array(out)


def fixed(boxes):
    """Return a detector that always answers the same."""
    return lambda image: (boxes, np.ones(len(boxes)), "landmarks")


def shown(frames, truth):
    """Return a stream, and a detector that knows where the face is in the frame shown last."""
    boxes, now = np.concatenate([truth.min(axis=1), truth.max(axis=1)], axis=1), [0]

    def stream():
        for now[0], frame in enumerate(frames):
            yield frame

    return stream(), lambda image: (boxes[now[0]][None], np.ones(1), "landmarks")


def models(names):
    for name in names.split(","):
        if name == "search68":
            fitter = load_model(name)
            yield name, fitter, lambda image, box, fitter=fitter: fitter.predict(image, boxes=box, n_turns=1).shape
        else:
            from asmnet import Predictor

            network = Predictor.from_pretrained(name)
            yield name, network, lambda image, box, network=network: network(image, box[None])[0].landmarks


@click.group()
def main():
    """Measure tracking."""


@main.command()
@click.option("--names", "--models", default="search68", show_default=True)
@click.option("--part", type=click.Choice(["train", "val"]), default="val", show_default=True)
@click.option("--n-faces", default=8, show_default=True)
@click.option("--n-frames", default=60, show_default=True)
@click.option("--smoothing", default="0,1,2", show_default=True)
def motion(names, part, n_faces, n_frames, smoothing):
    """Follow moving images, slow and fast."""
    every = list(faces(part))
    chosen = every[:: max(1, len(every) // n_faces)][:n_faces]
    for speed in (0.0, 0.5, 1.5):
        streams = []
        for i, (path, points) in enumerate(chosen):
            rng = np.random.default_rng(i)
            frames, truth = zip(*stream(path, points, chosen[i - 1][0], n_frames, rng, speed=speed), strict=True)
            streams.append((frames, np.array(truth)))
        for name, predictor, one in models(names):
            rows = {"frames alone": [measured(truth, alone(one, frames, truth)) for frames, truth in streams]}
            for s in map(float, smoothing.split(",")):
                rows[f"smoothing {s:g}"] = out = []
                for frames, truth in streams:
                    shapes = np.full(truth.shape, np.nan)
                    first = truth[0]
                    box = np.concatenate([first.min(0), first.max(0)])[None]
                    for k, frame in enumerate(
                        track(frames, predictor, detector=fixed(box), smoothing=s, detect_every=1000)
                    ):
                        for face in frame.faces:
                            if face.id == 0 and face.seen:
                                shapes[k] = face.landmarks
                    out.append((*measured(truth, shapes), np.isfinite(shapes).all((1, 2)).mean()))
            for label, values in rows.items():
                mean = np.nanmean(np.array(values), axis=0)
                kept = f", {100 * mean[2]:.0f} % of the frames" if len(mean) == 3 else ""
                click.echo(f"speed {speed:g} {name:11s} {label:13s} error {mean[0]:.2f}, jitter {mean[1]:.2f}{kept}")


def head(path, points, height):
    """Return the head of a face, so high, its landmarks and where it covers what is behind it."""
    image = read_image(path)
    image = np.repeat(image[..., None], 3, 2) if image.ndim == 2 else image
    low, high = points.min(0), points.max(0)
    side = (high - low).max()
    first = np.maximum(np.round((low + high) / 2 - 0.85 * side), 0).astype(int)
    crop = image[first[1] : first[1] + round(1.7 * side), first[0] : first[0] + round(1.7 * side)]
    factor = height / crop.shape[0]
    small = resize(crop, (height, round(crop.shape[1] * factor)), anti_aliasing=True, preserve_range=True)
    own = (points - first + 0.5) * factor - 0.5
    y, x = np.mgrid[: small.shape[0], : small.shape[1]]
    middle, radius = (own.min(0) + own.max(0)) / 2, np.ptp(own, axis=0) * [0.62, 0.72]
    return small, own, ((x - middle[0]) / radius[0]) ** 2 + ((y - middle[1]) / radius[1]) ** 2 < 1


@main.command()
@click.option("--part", type=click.Choice(["train", "val"]), default="val", show_default=True)
@click.option("--n-pairs", default=10, show_default=True)
@click.option("--gap", is_flag=True, help="Leave out eight frames as well, while nobody is behind the other.")
def crossing(part, n_pairs, gap):
    """Let two faces cross, one behind the other, and say whether each keeps its id.

    A face counts as itself when its landmarks are nearer to its own than to the other's and off by less than a fifth of
    the eye distance.
    """
    every = list(faces(part))
    chosen = every[:: max(1, len(every) // (2 * n_pairs))][: 2 * n_pairs]
    fitter, n = load_model("search68"), 60
    kept = swapped = 0
    for k in range(n_pairs):
        rng = np.random.default_rng(k)
        back, front = (head(*chosen[2 * k + j], 220) for j in (0, 1))
        frames, truth = [], []
        for i in range(n):
            frame = np.full((*SIZE, 3), 110.0)
            shapes = []
            for (image, points, mask), x, y in ((back, 20 + 6 * i, 110), (front, 380 - 6 * i, 130)):
                height, width = mask.shape
                part_of = frame[y : y + height, x : x + width]
                part_of[mask[:, : part_of.shape[1]]] = image[:, : part_of.shape[1]][mask[:, : part_of.shape[1]]]
                shapes.append(points + np.array([x, y]))
            missing = gap and 8 <= i < 16
            frame = np.full_like(frame, 110.0) if missing else frame
            frames.append(np.clip(frame + rng.normal(scale=4, size=(*SIZE, 1)), 0, 255).astype(np.uint8))
            truth.append(shapes)
        owner, switches, last = {}, 0, {}
        for i, frame in enumerate(track(frames, fitter)):
            for face in frame.faces:
                if not face.seen:
                    continue
                off = [np.linalg.norm(face.measured - s, axis=1).mean() / eyes(s) for s in truth[i]]
                who = int(np.argmin(off))
                if off[who] < 0.2:
                    switches += owner.setdefault(face.id, who) != who
                    last[who] = face.id
        firsts = {who: min((i for i, w in owner.items() if w == who), default=None) for who in (0, 1)}
        kept += sum(last.get(who) == firsts[who] is not None for who in (0, 1))
        swapped += switches > 0
    click.echo(
        f"{n_pairs} pairs: {kept} of {2 * n_pairs} faces keep their id to the end, {swapped} pairs with a wrong id"
    )


def youtube_clips(split, every):
    """Yield the frames of clips, each five times with the noise of a camera, and where their landmarks are."""
    found = defaultdict(list)
    with (DATA / "youtube68" / "keypoints.csv").open() as file:
        for row in list(csv.reader(file))[1:]:
            if row[3] == split:
                found[row[2]].append((row[0].split("_", 1)[1], row[0], np.array(row[4:140], float).reshape(68, 2)))
    rng = np.random.default_rng(0)
    for clip in sorted(found)[::every]:
        frames, truth = [], []
        for _, file, points in sorted(found[clip]):
            image = read_image(DATA / "youtube68" / "images" / file).astype(float)
            for _ in range(5):
                noise = rng.normal(scale=3, size=(*image.shape[:2], 1))
                frames.append(np.clip(image + noise, 0, 255).astype(np.uint8))
                truth.append(points)
        yield frames, np.array(truth)


@main.command()
@click.option("--names", "--models", default="search68", show_default=True)
@click.option("--every", default=4, show_default=True, help="Take one clip of so many.")
@click.option("--split", type=click.Choice(["train", "val"]), default="val", show_default=True)
def clips(names, every, split):
    """Follow the faces of clips, each frame shown five times with the noise of a camera.

    The frames with landmarks lie apart, so that the face moves by a tenth of its width between most of them.
    """
    streams = list(youtube_clips(split, every))
    for name, predictor, one in models(names):
        errors, jitter, unseen, ids = defaultdict(list), defaultdict(list), 0, 0
        for frames, truth in streams:
            shapes = {"frames alone": alone(one, frames, truth)}
            shapes |= {label: np.full(truth.shape, np.nan) for label in ("measured", "tracked")}
            seen_ids = set()
            given, detector = shown(frames, truth)
            for k, frame in enumerate(track(given, predictor, detector=detector, detect_every=5)):
                for face in frame.faces:
                    seen_ids.add(face.id)
                    if face.seen:
                        shapes["measured"][k], shapes["tracked"][k] = face.measured, face.landmarks
            ids += len(seen_ids)
            both = np.isfinite(shapes["tracked"]).all((1, 2))
            unseen += (~both).sum()
            if not both.any():
                continue
            for label, value in shapes.items():
                off = np.linalg.norm(value - truth, axis=-1).mean(-1) / eyes(truth)
                errors[label].append(np.nanmedian(off[both]))
                same = np.linalg.norm(value[1:] - value[:-1], axis=-1).mean(-1) / eyes(truth[1:])
                still = np.arange(1, len(truth)) % 5 >= 3  # the face has come to rest
                jitter[label].append(np.nanmean(same[still & both[1:] & both[:-1]]))
        click.echo(f"{name}: {len(errors['tracked'])} clips, {unseen} frames not seen, {ids} ids")
        for label in errors:
            click.echo(
                f"  {label:13s} error {100 * np.nanmean(errors[label]):.2f}, movement in frames that stand still "
                f"{100 * np.nanmean(jitter[label]):.3f} %"
            )


def ways(network):
    """Return a network that gets boxes only, and one that gets the landmarks of the frame before."""
    return {"boxes": lambda image, boxes: network(image, boxes, fit=False), "landmarks": network}


def turning_faces(part, n_faces, n_frames, speed, angle):
    """Yield moving faces whose frames are turned by an angle of the number of the frame."""
    every = list(faces(part))
    chosen = every[:: max(1, len(every) // n_faces)][:n_faces]
    middle = np.array(SIZE[::-1]) / 2
    for i, (path, points) in enumerate(chosen):
        frames, truth = [], []
        given = stream(path, points, chosen[i - 1][0], n_frames, np.random.default_rng(i), speed=speed)
        for k, (frame, shape) in enumerate(given):
            turn = SimilarityTransform(translation=-middle) + SimilarityTransform(rotation=angle(k))
            turn += SimilarityTransform(translation=middle)
            frames.append(warp(frame, turn.inverse, order=1, preserve_range=True).astype(np.uint8))
            truth.append(turn(shape))
        yield frames, np.array(truth)


@main.command()
@click.option("--names", "--models", default="asmnet-68,light-68,hourglass-68", show_default=True)
@click.option("--every", default=12, show_default=True, help="Take one clip of so many.")
@click.option("--n-faces", default=2, show_default=True, help="Moving and turning faces; 0 for clips only.")
def looks(names, every, n_faces):
    """Let networks begin at boxes or at the landmarks of the frame before: error, jitter, frames not seen, and time."""
    sets = {"clips": list(youtube_clips("val", every))}
    if n_faces:
        for label, speed, angle in (
            ("fast", 1.5, lambda k: 0.0),
            ("tilted by 45 degrees", 0.5, lambda k: np.pi / 4),
            ("turning by 15 degrees a frame", 0.5, lambda k: k * np.pi / 12),
        ):
            sets[label] = list(turning_faces("val", n_faces, 24, speed, angle))
    for name, network, _ in models(names):
        for kind, streams in sets.items():
            rows = defaultdict(list)
            for frames, truth in streams:
                found, seconds = {}, {}
                for way, predictor in ways(network).items():
                    given, detector = shown(frames, truth)
                    found[way] = np.full(truth.shape, np.nan)
                    began = time.process_time()
                    for k, frame in enumerate(track(given, predictor, detector=detector, detect_every=5)):
                        for face in frame.faces:
                            if face.seen:
                                found[way][k] = face.landmarks
                    seconds[way] = time.process_time() - began
                off = {way: np.isnan(shapes).any((1, 2)) for way, shapes in found.items()}
                both = ~np.logical_or(*off.values())
                for way, shapes in found.items():
                    kept = np.where(both[:, None, None], shapes, np.nan)
                    rows[way].append(
                        (*measured(truth, kept), off[way].sum(), seconds[way]) if both.any() else [np.nan] * 4
                    )
            n = sum(map(len, (truth for _, truth in streams)))
            old, new = (np.array(rows[way]) for way in ("boxes", "landmarks"))
            change = (new - old)[:, 0]
            change = change[np.isfinite(change)]
            click.echo(f"{name}, {kind}: {len(streams)} streams, {n} frames")
            for way in rows:
                error, jitter = np.nanmean(np.array(rows[way])[:, :2], axis=0)
                unseen, time_taken = np.nansum(np.array(rows[way])[:, 2:], axis=0)
                click.echo(
                    f"  from {way:9s} error {error:.2f}, jitter {jitter:.2f} %, {unseen:.0f} frames not seen, "
                    f"{1e3 * time_taken / n:.0f} ms a frame"
                )
            click.echo(f"  change of the error {change.mean():+.2f} +- {change.std() / len(change) ** 0.5:.2f} %")


@main.command()
@click.option("--names", "--models", default="search68,asmnet-68,light-68", show_default=True)
@click.option("--n-frames", default=90, show_default=True)
def speed(names, n_frames):
    """Time a stream of 640 x 480 with one face, on one core, beside searching each frame from a detected box."""
    from skimage.data import astronaut

    from shape_models.search import find_faces

    canvas = np.zeros((*SIZE, 3), np.uint8) + 90
    frames = []
    for k in range(n_frames):
        frame = canvas.copy()
        x = 60 + int(40 * np.sin(k / 15))
        frame[:, x : x + 512] = astronaut()[:480]
        frames.append(frame)
    for name, predictor, one in models(names):
        list(track(frames[:12], predictor))
        began = time.process_time()
        out = list(track(frames, predictor))
        ours = (time.process_time() - began) / n_frames
        began = time.process_time()
        for frame in frames[:10]:
            boxes = find_faces(frame).boxes
            one(frame, boxes[0])
        naive = (time.process_time() - began) / 10
        ids = {face.id for frame in out for face in frame.faces}
        if name != "search68":
            boxes_only = ways(predictor)["boxes"]
            began = time.process_time()
            list(track(frames, boxes_only))
            from_boxes = (time.process_time() - began) / n_frames
            click.echo(f"{name}: {1 / from_boxes:.0f} frames/s from boxes, ratio {from_boxes / ours:.2f}")
        click.echo(
            f"{name}: {1 / ours:.0f} frames/s, {1e3 * ours:.1f} ms a frame; {1e3 * naive:.1f} ms with detection in "
            f"each, ratio {naive / ours:.1f}; {len(ids)} id"
        )


if __name__ == "__main__":
    main()
