"""Heat maps and shape model together: a network says how likely each landmark is where, the model what faces can be."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from asmnet.data import LandmarkDataset, Preprocessing
from asmnet.heatmaps import decode_heatmaps
from shape_models import AlignedASM
from shape_models.search import ASMFitter
from shape_models.search import HeatMaps as HeatMapEvidence

__all__ = [
    "HEATMAP_FITS",
    "HeatmapSet",
    "fit_heatmaps",
    "heatmap_fitter",
    "mean_shift",
    "occlude",
    "predict_heatmaps",
]

HEATMAP_FITS = ("raw", "clipped", "rlms")


@dataclass(frozen=True)
class HeatmapSet:
    """Heat maps of faces and where they lie.

    Attributes
    ----------
    maps : ndarray of shape (n, n_landmarks, height, width)
        Of the last stack.
    matrices : ndarray of shape (n, 2, 3)
        Pixels of the map, centres at integers, to pixels of the packed image.

    Examples
    --------
    >>> import numpy as np
    >>> from asmnet.hybrid import HeatmapSet
    >>> HeatmapSet(np.zeros((1, 5, 8, 8)), np.eye(2, 3)[None]).maps.shape
    (1, 5, 8, 8)
    """

    maps: np.ndarray
    matrices: np.ndarray

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Map points (n, n_landmarks, 2) of the maps to pixels of the packed images.

        Parameters
        ----------
        points : ndarray of shape (n, n_landmarks, 2)
            Pixels of the maps.

        Returns
        -------
        ndarray of shape (n, n_landmarks, 2)
            Pixels of the packed images.
        """
        return points @ np.swapaxes(self.matrices[:, :, :2], 1, 2) + self.matrices[:, None, :, 2]


@torch.no_grad()
def predict_heatmaps(
    network: nn.Module,
    dataset: LandmarkDataset,
    preprocessing: Preprocessing,
    *,
    boxes: np.ndarray | None = None,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
) -> HeatmapSet:
    """Draw the heat maps of all faces of a packed set.

    Parameters
    ----------
    network : Module
        A network that draws heat maps, such as ``build_network("hourglass", 68)``.
    dataset : LandmarkDataset
        The faces.
    preprocessing : Preprocessing
        Of the network.
    boxes : ndarray of shape (n, 4), optional
        In packed pixels, instead of the set's own.
    batch_size : int
        Faces at a time.
    device : device
        Of the network.

    Returns
    -------
    HeatmapSet
        One map for each landmark of each face.

    Raises
    ------
    ValueError
        When the network draws no heat maps.

    Examples
    --------
    >>> import numpy as np
    >>> from asmnet import LandmarkDataset, Preprocessing, build_network
    >>> from asmnet.hybrid import predict_heatmaps
    >>> points = np.array([[[4.0, 4.0], [12.0, 10.0]]])
    >>> data = LandmarkDataset.from_arrays(np.zeros((1, 16, 16, 3), np.uint8), points)
    >>> network = build_network("hourglass-small", 2, width=0.25)
    >>> predict_heatmaps(network, data, Preprocessing(size=32)).maps.shape
    (1, 2, 16, 16)
    """
    training = network.training
    network.eval()
    maps, matrices = [], []
    try:
        for start in range(0, len(dataset), batch_size):
            rows = np.arange(start, min(start + batch_size, len(dataset)))
            batch = dataset.batch(rows, preprocessing, boxes=None if boxes is None else boxes[rows], device=device)
            prediction = network(batch.images.contiguous(memory_format=torch.channels_last))
            if not prediction.heatmaps:
                raise ValueError(f"{type(network).__name__} draws no heat maps; expected one such as 'hourglass'.")
            last = prediction.heatmaps[-1].float()
            height, width = last.shape[-2:]
            # Crop units of map pixel u: (u + 1/2) / width - 1/2, then the crop's own map to pixels.
            step = torch.tensor([1.0 / width, 1.0 / height], dtype=torch.float64)
            axes, centre = batch.crops.axes.double().cpu(), batch.crops.centre.double().cpu()
            corner = (axes @ (step / 2 - 0.5)[:, None])[..., 0] + centre
            matrices.append(torch.cat([axes * step, corner[..., None]], dim=2).numpy())
            maps.append(last.cpu().numpy())
    finally:
        network.train(training)
    return HeatmapSet(np.concatenate(maps), np.concatenate(matrices))


def fit_heatmaps(
    heatmaps: HeatmapSet,
    dataset: LandmarkDataset,
    model: AlignedASM,
    *,
    method: str = "rlms",
    decoder: str = "parabola",
    sharpness: float = 2.0,
    **options: Any,
) -> np.ndarray:
    """Turn heat maps into landmarks, with or without the shape model.

    Parameters
    ----------
    heatmaps : HeatmapSet
        Of the faces of `dataset`.
    dataset : LandmarkDataset
        The faces; only their number is used.
    model : AlignedASM
        Fitted on the same landmarks.
    method : {"raw", "clipped", "rlms"}
        The decoded maxima; these projected by the model (as it stands: a model with ``loss="tukey"`` leaves single
        landmarks that were found elsewhere out); or regularised landmark mean-shift, which weighs the whole maps
        against the modes and starts from the robust projection.
    decoder : str
        See `asmnet.heatmaps.decode_heatmaps`.
    sharpness : float
        Maps are raised to this power before the mean-shift, so that what is far from the maxima counts little.
    **options
        See `heatmap_fitter`.

    Returns
    -------
    ndarray of shape (n, n_landmarks, 2)
        Pixels of the packed images. Landmarks of flat maps are NaN in the raw answer and filled by the model in the
        others.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from asmnet import LandmarkDataset
    >>> from asmnet.heatmaps import draw_heatmaps
    >>> from asmnet.hybrid import HeatmapSet, fit_heatmaps
    >>> from shape_models import AlignedASM, make_faces
    >>> shapes = 0.3 * make_faces(40, rng=0)
    >>> model = AlignedASM().fit(shapes[1:])
    >>> data = LandmarkDataset.from_arrays(np.zeros((1, 80, 80, 3), np.uint8), shapes[:1])
    >>> maps = HeatmapSet(draw_heatmaps(torch.tensor(shapes[:1]), (80, 80)).numpy(), np.eye(2, 3)[None])
    >>> bool(np.abs(fit_heatmaps(maps, data, model) - shapes[:1]).mean() < 1)
    True
    """
    if method not in HEATMAP_FITS:
        raise ValueError(f"method: got {method!r}; expected one of {', '.join(HEATMAP_FITS)}.")
    if len(heatmaps.maps) != len(dataset) or heatmaps.maps.shape[1] != dataset.n_landmarks:
        raise ValueError(
            f"got heat maps of {heatmaps.maps.shape[:2]} faces and landmarks; "
            f"expected {(len(dataset), dataset.n_landmarks)}, those of the faces."
        )
    decoded = decode_heatmaps(torch.from_numpy(heatmaps.maps), method=decoder, flat="nan").double().numpy()
    raw = heatmaps.to_pixels(decoded)
    if method == "raw":
        return raw
    if method == "clipped":
        return np.asarray(model.project(raw))
    return mean_shift(heatmap_fitter(model, **options), heatmaps, raw, sharpness=sharpness)


def heatmap_fitter(model: AlignedASM, *, width: float = 0.015, prior: float = 0.1, n_iter: int = 8) -> ASMFitter:
    """Return the fitter of `mean_shift` for a shape model.

    Parameters
    ----------
    model : AlignedASM
        Fitted on the landmarks of the maps.
    width, prior, n_iter : optional
        See `shape_models.search.HeatMaps`. The defaults suit the maps of the networks here better than those of the
        derivation: they gave the smallest errors on training faces of 300-W, plain and covered.

    Returns
    -------
    ASMFitter
        With `HeatMaps` for evidence.

    Examples
    --------
    >>> from asmnet.hybrid import heatmap_fitter
    >>> from shape_models import AlignedASM, make_faces
    >>> heatmap_fitter(AlignedASM().fit(make_faces(40, rng=0))).evidence
    HeatMaps(prior=0.1, width=0.015)
    """
    evidence = HeatMapEvidence(width=width, prior=prior, n_iter=n_iter)
    return ASMFitter(model, evidence=evidence).fit(None, _training_shapes(model))


def mean_shift(fitter: ASMFitter, heatmaps: HeatmapSet, raw: np.ndarray, *, sharpness: float = 2.0) -> np.ndarray:
    """Fit the shape model to heat maps by regularised landmark mean-shift.

    Parameters
    ----------
    fitter : ASMFitter
        See `heatmap_fitter`.
    heatmaps : HeatmapSet
        Maps and where they lie; faces may reach beyond the edges of their maps and images.
    raw : ndarray of shape (n, n_landmarks, 2)
        The decoded maxima in pixels of the images, NaN where a map is flat: the fit starts from their robust
        projection, which landmarks found elsewhere do not pull away.
    sharpness : float
        See `fit_heatmaps`.

    Returns
    -------
    ndarray of shape (n, n_landmarks, 2)
        Pixels of the images; NaN for faces with too few maxima for a shape, such as one of flat maps.

    References
    ----------
    J. M. Saragih, S. Lucey, J. F. Cohn, "Deformable model fitting by regularized landmark mean-shift", IJCV 91 (2011).

    Examples
    --------
    >>> import numpy as np, torch
    >>> from asmnet.heatmaps import draw_heatmaps
    >>> from asmnet.hybrid import HeatmapSet, heatmap_fitter, mean_shift
    >>> from shape_models import AlignedASM, make_faces
    >>> shapes = 0.3 * make_faces(40, rng=0)
    >>> maps = HeatmapSet(draw_heatmaps(torch.tensor(shapes[:1]), (80, 80)).numpy(), np.eye(2, 3)[None])
    >>> found = mean_shift(heatmap_fitter(AlignedASM().fit(shapes[1:])), maps, shapes[:1])
    >>> bool(np.abs(found - shapes[:1]).mean() < 1)
    True
    """
    if not 0 < sharpness < np.inf:
        raise ValueError(f"sharpness: got {sharpness!r}; expected a positive number.")
    out = _robust_start(fitter.asm_, raw)
    rows = np.flatnonzero(np.isfinite(out).all((1, 2)))
    if not len(rows):
        return out
    # Each face on a canvas of its own, four times as wide as its maps, at the scale of the maps.
    height, width = heatmaps.maps.shape[2:]
    side = 4 * max(height, width)
    matrices = heatmaps.matrices[rows]
    scale = 1 / np.sqrt(np.abs(np.linalg.det(matrices[:, :, :2])))[:, None, None]
    middle = (matrices @ [(width - 1) / 2, (height - 1) / 2, 1.0])[:, None]
    on_canvas = scale * matrices
    on_canvas[:, :, 2] = (scale * (matrices[:, None, :, 2] - middle))[:, 0] + (side - 1) / 2
    sharp = np.maximum(heatmaps.maps[rows], 0.0) ** sharpness
    results = fitter.predict(
        [np.zeros((side, side), np.uint8)] * len(rows),
        initial=scale * (out[rows] - middle) + (side - 1) / 2,
        heatmaps=list(zip(sharp, on_canvas, strict=True)),
    )
    assert isinstance(results, list)
    for i, result in enumerate(results):
        if result.status != "error":  # a face that is off its canvas stays where the projection puts it
            out[rows[i]] = (result.shape - (side - 1) / 2) / scale[i] + middle[i]
    return out


def _robust_start(model: AlignedASM, raw: np.ndarray) -> np.ndarray:
    """Project maxima so that single ones found elsewhere do not count; NaN for faces that have too few."""
    robust = copy.copy(model).set_params(loss="tukey")
    try:
        return np.array(robust.project(raw))
    except ValueError:
        if len(raw) == 1:
            return np.full(raw.shape, np.nan)
        return np.concatenate([_robust_start(model, one[None]) for one in raw])


def _training_shapes(model: AlignedASM) -> np.ndarray:
    """Return shapes with the mean and the size of the model's: the fitter learns the frame of its shapes from them."""
    return np.asarray(model.asm_.basis_.sample(32, rng=np.random.default_rng(0)))


def occlude(dataset: LandmarkDataset, *, share: float = 0.25, rng: Any = 0) -> LandmarkDataset:
    """Cover part of every face by a grey rectangle, as a test of what a method makes of what it cannot see.

    Parameters
    ----------
    dataset : LandmarkDataset
        The faces; the images are copied.
    share : float
        Area of the rectangle as a fraction of the box of the face; it lies within the box, at a random place and with a
        random form (sides in the ratio 1 : 2 to 2 : 1).
    rng : seed or Generator
        Of place and form.

    Returns
    -------
    LandmarkDataset
        The covered faces.

    Examples
    --------
    >>> import numpy as np
    >>> from asmnet import LandmarkDataset
    >>> from asmnet.hybrid import occlude
    >>> points = np.array([[[0.0, 0.0], [19.0, 19.0]]])
    >>> data = LandmarkDataset.from_arrays(np.full((1, 20, 20, 3), 255, np.uint8), points)
    >>> covered = (occlude(data, share=0.25).images == 127).all(axis=-1).mean()
    >>> bool(0.2 < covered < 0.3)
    True
    """
    if not 0 < share <= 0.5:
        raise ValueError(f"share: got {share}; expected a part of the face above 0, up to 0.5.")
    rng = np.random.default_rng(rng)
    images = np.array(dataset.images)
    for image, (x0, y0, x1, y1) in zip(images, dataset.boxes, strict=True):
        w, h = x1 - x0, y1 - y0
        ratio = 2.0 ** rng.uniform(-1, 1)
        wide = min(w, np.sqrt(share * w * h * ratio))
        high = min(h, share * w * h / wide)
        left, top = rng.uniform(x0, x1 - wide), rng.uniform(y0, y1 - high)
        rows = slice(max(0, round(top)), max(0, round(top + high)))
        image[rows, max(0, round(left)) : max(0, round(left + wide))] = 127
    return replace(dataset, images=images)
