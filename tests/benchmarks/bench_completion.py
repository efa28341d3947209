"""How well hidden landmarks are completed on small sets, by the mean, by few modes, by OAS shrinkage and by default.

    SHAPE_MODELS_DATA=... python tests/benchmarks/bench_completion.py [--amounts] [--noise]

Each of five folds is kept from the fit in turn; one to three landmarks of each of its shapes are hidden before anything
is estimated, so that pose and shape come from the seen ones alone. Root mean square distance of the hidden landmarks in
per cent of the centroid size.

With ``--amounts`` the default, whose shrinkage makes the shapes most likely, is compared with an amount and a target
that complete shapes best which were left out (in holes of one landmark, an eighth, a quarter and half of them, and in a
strewn half; the geometric mean over the sizes of the errors), and with the target of the default and the geometric mean
of its amount and of the best one for shapes left out. These sets, faces too; mean distances, and what they differ from
the default in per cent of it, with 95 % intervals of the differences over shapes.

With ``--noise`` hidden jaw lines of faces are completed from landmarks with the errors of a detector, taken for exact
and with their covariance. Mean distances in per cent of that of the outer eye corners, and how many true landmarks lie
within ``radius(0.95)``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from evaluation import bootstrap_interval
from shape_models import ASM, AlignedASM, ShapeBasis, centroid_size, estimate_similarity, load_model
from shape_models._completion import _most_likely, _targets, completion_basis
from shape_models._transforms import pose_directions
from shape_models.datasets import load_landmarks, read_300w

SETS = (
    "ape_skulls",
    "gorilla_skulls",
    "macaque_skulls_3d",
    "bones_3d",
    "digit3",
    "plethodon",
    "hummingbirds",
    "fly_wings",
    "hands",
)


def read(name: str) -> np.ndarray:
    """Return the shapes of a set."""
    data = Path(os.environ["SHAPE_MODELS_DATA"])
    if name == "fly_wings":
        return np.asarray(load_landmarks(next((data / name).glob("*.tps"))).shapes())
    file = data / "hands" / "landmarks.npz" if name == "hands" else data / "landmarks" / f"{name}.npz"
    with np.load(file) as arrays:
        return arrays["shapes"].astype(float)


def few_modes(asm: ASM, shapes: np.ndarray) -> AlignedASM:
    """Fit, and complete by the modes of the model itself."""
    model = AlignedASM(asm).fit(shapes)
    model.asm_.covariance_ = None
    return model


AMOUNTS = np.concatenate([[1e-6, 1e-5, 1e-4], np.geomspace(3e-4, 0.97, 20)])
PARTS = {"jaw": np.arange(17), "mouth": np.arange(48, 68), "one side": np.r_[0:8, 17:22, 31:33, 36:42, 48, 59, 60]}


def left_out(mean: np.ndarray, flat: np.ndarray, basis: ShapeBasis, mixed: bool) -> ShapeBasis:
    """Return the Gaussian whose amount of shrinkage, and target unless mixed, complete best what was left out."""
    n, (k, d) = len(flat), mean.shape
    rng = np.random.default_rng(0)
    space = np.linalg.svd(pose_directions(mean))[2][np.linalg.matrix_rank(pose_directions(mean)) :].T
    near = np.linalg.norm(mean[:, None] - mean, axis=-1).argsort(axis=1)
    holes = []
    for count in sorted({max(1, round(k * share)) for share in (0, 0.125, 0.25, 0.5)}):
        holes.append([near[i][:count] for i in rng.permutation(k)[: 12 if count == 1 else 4]])
    holes.append([rng.permutation(k)[: k // 2] for _ in range(2)])
    folds = min(n, 10 if n < 100 else 5)
    fold = rng.permutation(n) % folds
    covariance = np.cov(flat, rowvar=False)
    found = []
    for target in _targets(mean, space @ space.T, smooth=True):
        values, vectors = np.linalg.eigh(space.T @ target @ space)
        root = space @ (vectors / np.sqrt(values))
        scatter = np.maximum(np.linalg.eigvalsh(root.T @ covariance @ root), 0.0)
        found.append((target, root, scatter, *_most_likely(scatter, float(np.log(values).sum()), n)))
    if mixed:
        found = [max(found, key=lambda row: row[3])]
    squares = np.zeros((len(found), len(AMOUNTS), len(holes)))
    for f in range(folds):
        rest, new = flat[fold != f], flat[fold == f][: max(12, 300 // folds)]
        new, inner = new - rest.mean(axis=0), np.cov(rest, rowvar=False)
        for t, (_, root, *_) in enumerate(found):
            values, vectors = np.linalg.eigh(root.T @ inner @ root)
            values, rows = np.maximum(values, 0.0), root @ vectors
            for j, amount in enumerate(AMOUNTS):
                weight = amount / (1 - amount) * (n - 1) / (len(rest) - 1)
                precision = (rows / (values + weight * values.mean())) @ rows.T
                pulled = new @ precision
                for q, hole in enumerate(holes):
                    for hidden in hole:
                        at = (hidden[:, None] * d + np.arange(d)).ravel()
                        squares[t, j, q] += np.square(
                            np.linalg.solve(precision[np.ix_(at, at)], pulled[:, at].T)
                        ).mean()
    t, j = np.unravel_index(np.log(squares).mean(axis=-1).argmin(), squares.shape[:2])
    target, _, scatter, _, own = found[t]
    weight = AMOUNTS[j] / (1 - AMOUNTS[j])
    weight = np.sqrt(weight * own / (1 - own)) if mixed else weight
    values, vectors = np.linalg.eigh((covariance + weight * scatter.mean() * target) / (1 + weight))
    values, vectors = values[::-1][: space.shape[1]], vectors[:, ::-1][:, : space.shape[1]]
    values = np.maximum(values, 1e-9 * values[0])
    return ShapeBasis(mean, vectors.T, values, basis.limit, noise_variance=float(values[-1]))


def splits() -> Iterator[tuple[str, list[tuple[np.ndarray, np.ndarray]]]]:
    """Return names of sets, and pairs of training and test shapes."""
    data = Path(os.environ["SHAPE_MODELS_DATA"])
    train, new = (read_300w(data / "300w", split=split).shapes() for split in ("train", "val"))
    for n in (30, 100, 300, 1750):
        draws = [np.random.default_rng(i).permutation(len(train))[:n] for i in range(3 if n < len(train) else 1)]
        yield f"300-W, {n}", [(train[rows], new) for rows in draws]
    for name, file, dims in (("AFLW2000 2-D", "aflw2000_3d68", 2), ("AFLW2000 3-D", "aflw2000_3d68", 3),
                             ("WFLW", "wflw_test_68", 2)):  # fmt: skip
        with np.load(data / "landmarks" / f"{file}.npz") as archive:
            faces = archive["shapes"][..., :dims].astype(float)
        for n in (50, 500):
            orders = [np.random.default_rng(i).permutation(len(faces)) for i in range(2)]
            yield f"{name}, {n}", [(faces[order[:n]], faces[order[-300:]]) for order in orders]
    table = np.genfromtxt(data / "landmarks" / "muct68_opencv.csv", delimiter=",", skip_header=1)[:3755, 2:]
    faces = table.reshape(-1, 68, 2)
    faces = faces[(faces != 0).any(axis=-1).all(axis=-1)]
    yield "MUCT, 500", [(faces[:2000][np.random.default_rng(0).permutation(2000)[:500]], faces[-300:])]
    for name in SETS:
        shapes = read(name)
        fold = (
            np.arange(len(shapes)) // 10 if name == "hands" else np.random.default_rng(0).permutation(len(shapes)) % 5
        )
        yield name, [(shapes[fold != f], shapes[fold == f]) for f in np.unique(fold)]


def amounts() -> None:
    """Print how amounts and targets that are chosen otherwise complete."""
    print(f"{'set':<20}{'hidden':<14}{'default':>9}{'left out, less default':>28}{'both, less default':>28}")
    for name, pairs in splits():
        found: dict[str, list[np.ndarray]] = {}
        for train, new in pairs:
            model, k = AlignedASM(ASM(0.98)).fit(train), train.shape[1]
            asm, rng = model.asm_, np.random.default_rng(0)
            flat = model.alignment_.transform(train).reshape(len(train), -1)
            near = np.linalg.norm(asm.mean_[:, None] - asm.mean_, axis=-1).argsort(axis=1)
            hidden = {what: np.tile(np.isin(np.arange(k), part), (len(new), 1)) for what, part in PARTS.items()}
            hidden = hidden if k == 68 and not name.startswith("MUCT") else {}  # whose order is its own
            for what in ("a third", "random half", "one to three"):
                hidden[what] = np.zeros((len(new), k), dtype=bool)
                for row in hidden[what]:
                    count = {"a third": k // 3, "random half": k // 2}.get(what, rng.integers(1, min(4, k // 2)))
                    row[near[rng.integers(k)][:count] if what == "a third" else rng.permutation(k)[:count]] = True
            priors = [
                completion_basis(asm.mean_, asm.covariance_, len(train), asm.basis_.limit),
                *(left_out(asm.mean_, flat, asm.basis_, mixed) for mixed in (False, True)),
            ]
            for prior in priors:
                asm.basis_ = ShapeBasis(
                    asm.mean_, asm.components_, asm.explained_variance_, noise_variance=asm.noise_variance_
                )
                asm.basis_._derived("completion", lambda prior=prior: prior)
                for what, gone in hidden.items():
                    filled = model.complete(np.where(gone[..., None], np.nan, new)).shapes
                    off = np.linalg.norm(filled - new, axis=-1) / np.asarray(centroid_size(new))[:, None]
                    found.setdefault(what, []).append(100 * (off * gone).sum(axis=1) / gone.sum(axis=1))
        for what, rows in found.items():
            table = np.stack([np.concatenate(rows[i::3]) for i in range(3)])
            first, *others = table[:, np.isfinite(table).all(axis=0)]  # what is seen of a shape may look like nothing
            gains = [bootstrap_interval(100 * (other - first) / first.mean(), rng=0) for other in others]
            texts = (f"{gain.estimate:+.1f} [{gain.low:+.1f}, {gain.high:+.1f}] %" for gain in gains)
            print(f"{name:<20}{what:<14}{first.mean():9.3f}" + "".join(f"{text:>28}" for text in texts), flush=True)


def main() -> None:
    """Print a row for each set."""
    methods = {
        "ASM(0.95) modes": lambda shapes: few_modes(ASM(0.95), shapes),
        "all modes, OAS": lambda shapes: few_modes(ASM(None, shrinkage="oas"), shapes),
        "default": lambda shapes: AlignedASM(ASM(0.95)).fit(shapes),
    }
    print(f"{'set':<20}{'n':>5}{'pasted mean':>18}" + "".join(f"{name:>18}" for name in methods))
    for name in SETS:
        shapes = read(name)
        rng = np.random.default_rng(0)
        fold = rng.permutation(np.arange(len(shapes)) % 5)
        seen = np.ones(shapes.shape[:2], bool)
        for row in seen:
            row[rng.choice(len(row), rng.integers(1, 4), replace=False)] = False
        holed = np.where(seen[..., None], shapes, np.nan)
        found = {method: np.empty_like(shapes) for method in ("pasted mean", *methods)}
        for k in range(5):
            rows = np.flatnonzero(fold == k)
            for method, make in methods.items():
                model = make(shapes[fold != k])
                found[method][rows] = model.complete(holed[rows]).shapes
            mean = model.alignment_.mean_shape_
            for i in rows:
                found["pasted mean"][i] = estimate_similarity(mean[seen[i]], shapes[i][seen[i]])(mean)
        hidden = ~seen
        size = np.asarray(centroid_size(shapes))[:, None]
        errors = [
            100 * np.sqrt(np.mean((np.linalg.norm(answer - shapes, axis=-1) / size)[hidden] ** 2))
            for answer in found.values()
        ]
        print(f"{name:<20}{len(shapes):>5}" + "".join(f"{error:>18.2f}" for error in errors), flush=True)


def noise() -> None:
    """Print how well jaw lines are completed from landmarks that are not exact."""
    new = read_300w(Path(os.environ["SHAPE_MODELS_DATA"]) / "300w", split="val").shapes()
    model, rng = load_model("face68"), np.random.default_rng(0)
    eyes = np.linalg.norm(new[:, 36] - new[:, 45], axis=1)[:, None]
    for share in (0.0, 0.01, 0.02, 0.04):
        points = new + rng.normal(size=new.shape) * (share * eyes)[..., None]
        points[:, PARTS["jaw"]] = np.nan
        text = f"noise of {100 * share:g} %"
        for what, covariance in (("taken for exact", None), ("with covariance", np.square(share * eyes) * np.ones(68))):
            filled = model.complete(points, covariance=covariance)
            off = (filled.shapes - new)[:, PARTS["jaw"]]
            inverse = np.linalg.inv(filled.covariance[:, PARTS["jaw"]])
            inside = np.sqrt(np.einsum("nki,nkij,nkj->nk", off, inverse, off)) <= filled.radius(0.95)[:, PARTS["jaw"]]
            error = 100 * (np.linalg.norm(off, axis=-1) / eyes).mean()
            text += f"   {what} {error:5.1f} %, inside {100 * inside.mean():3.0f} %"
        print(text, flush=True)


if __name__ == "__main__":
    {"--amounts": amounts, "--noise": noise}.get(sys.argv[-1], main)()
