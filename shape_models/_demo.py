"""The demonstration: real faces, corrupted on purpose, repaired with the bundled model, and measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ._aligned import AlignedASM
from ._files import atomic
from .images import read_image
from .io import load_model
from .landmarks import IBUG68

# The 68 iBUG landmarks of skimage.data.astronaut(), placed by eye on an enlarged image; pixels, first pixel 0.
ASTRONAUT = np.loadtxt(Path(__file__).with_name("_astronaut.csv").read_text().splitlines(), delimiter=",", skiprows=1)


def run(output: Path, data: Path | None) -> Iterator[str]:
    """Corrupt, repair, measure and draw; yield what to print.

    Faces are those of 300-W marked val where `data` holds them, else the astronaut of scikit-image.
    """
    output.mkdir(parents=True, exist_ok=True)
    model: AlignedASM = load_model("face68")
    robust: AlignedASM = load_model("face68").set_params(loss="tukey")
    truth, pictures, source = _faces(data)
    yield f"model: face68, {model.asm_.n_components_} modes learned from {model.asm_.n_samples_} faces"
    yield f"faces: {source}"
    rng = np.random.default_rng(0)
    repeats = 1 if len(truth) > 1 else 200  # one face is corrupted many times over, to have a mean
    faces = truth.repeat(repeats, axis=0)
    eyes = np.linalg.norm(faces[:, 45] - faces[:, 36], axis=1)

    noisy = faces + 0.05 * eyes[:, None, None] * rng.normal(size=faces.shape)
    jumps = _jumps(rng, faces, eyes, count=5)
    hidden = faces.copy()
    mouth = IBUG68.groups["mouth"]
    hidden[:, mouth] = np.nan
    completed = model.complete(hidden)
    naive = model.alignment_.align(hidden).inverse(model.alignment_.mean_shape_)
    rows = [
        ("every landmark off by 5 % of the eye distance", noisy, model.project(noisy), slice(None)),
        ('5 landmarks thrown 60 % away, loss="tukey"', jumps, robust.project(jumps), slice(None)),
        ("mouth hidden (before: that of the mean face)", naive, completed.shapes, mouth),
    ]
    yield ""
    yield f"{'mean error, % of the distance of the outer eye corners':56s}{'before':>8s}{'after':>8s}"
    for name, before, after, which in rows:
        values = [_error(shapes, faces, eyes, which) for shapes in (before, after)]
        yield f"  {name:54s}{values[0]:8.2f}{values[1]:8.2f}"
    yield ""
    first = slice(None, None, repeats)
    for path in _draw(output, model, robust, truth, noisy[first], jumps[first], hidden[first], pictures):
        yield f"picture: {path.resolve()}"


def _faces(data: Path | None) -> tuple[np.ndarray, list[Any], str]:
    """Return landmarks, images (paths or pixels), and where they come from."""
    if data is not None and (data / "300w" / "split.csv").is_file():
        from .datasets import read_300w

        samples = read_300w(data / "300w", split="val")
        return samples.shapes(), samples.images, f"the {len(samples)} faces of 300-W marked val, in {data / '300w'}"
    from skimage.data import astronaut

    return ASTRONAUT[None], [astronaut()], "one, the astronaut of scikit-image (set SHAPE_MODELS_DATA for 300-W)"


def _jumps(rng: np.random.Generator, faces: np.ndarray, eyes: np.ndarray, *, count: int) -> np.ndarray:
    n, k = faces.shape[:2]
    which = np.argsort(rng.random((n, k)), axis=1)[:, :count]
    angle = rng.uniform(0, 2 * np.pi, size=(n, count))
    step = 0.6 * eyes[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    moved = faces.copy()
    rows = np.arange(n)[:, None]
    moved[rows, which] += step
    return moved


def _error(shapes: np.ndarray, faces: np.ndarray, eyes: np.ndarray, which: Any) -> float:
    distance = np.linalg.norm(shapes - faces, axis=2)[:, which].mean(axis=1)
    return float(100 * np.mean(distance / eyes))


def _draw(
    output: Path,
    model: AlignedASM,
    robust: AlignedASM,
    truth: np.ndarray,
    noisy: np.ndarray,
    jumps: np.ndarray,
    hidden: np.ndarray,
    pictures: list[Any],
) -> Iterator[Path]:
    from matplotlib import pyplot

    from ._drawing import shared_legend
    from .plotting import AFTER, GREY, plot_clip, plot_modes, plot_shape

    chosen = range(0, len(truth), max(1, len(truth) // 3))[:3]
    figure, axes = pyplot.subplots(len(chosen), 4, figsize=(14, 3.7 * len(chosen)), layout="constrained", squeeze=False)
    for row, i in zip(axes, chosen, strict=True):
        pixels = read_image(pictures[i])
        for ax, title in zip(row, ("annotated", "noise", "5 landmarks thrown away", "mouth hidden"), strict=True):
            ax.set_title(title, fontsize=9)
        plot_shape(truth[i], row[0], image=pixels, scheme=IBUG68, color=GREY)
        plot_clip(model, noisy[i], row[1], image=pixels)
        plot_clip(robust, jumps[i], row[2], image=pixels)
        plot_shape(
            model.complete(hidden[i]).shapes, row[3], image=pixels, scheme=IBUG68, color=AFTER, label="completed"
        )
        plot_shape(truth[i, IBUG68.groups["mouth"]], row[3], color="#edae49", size=9, label="annotated")
        low, high = truth[i].min(axis=0), truth[i].max(axis=0)
        margin = 0.35 * (high - low).max()
        for ax in row:
            ax.set_xlim(low[0] - margin, high[0] + margin)
            ax.set_ylim(high[1] + margin, low[1] - margin)
            ax.set_xticks([])
            ax.set_yticks([])
    shared_legend(figure)
    yield _save(figure, output / "repaired.png")
    yield _save(plot_modes(model, n_modes=5).figure, output / "modes.png")


def _save(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot

    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=110)
    pyplot.close(figure)
    return path
