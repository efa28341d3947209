"""What analyses of form ask of landmarks: sizes, symmetry, affine superimposition, outliers, tables for R.

Tests, regressions and phylogenies are left to the R packages made for them: geomorph and RRPP (Procrustes ANOVA,
allometry, disparity, partial least squares, modularity), Morpho (digitising error, classification), shapes (tests of
mean shapes), phytools (phylogenetic principal components). `write_table` gives them the numbers.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ._array import DegenerateShapeError, as_shapes, refuse_extremes_of
from ._brief import brief
from ._files import write_text
from ._options import as_path
from ._procrustes import generalized_procrustes, mirror_shapes
from ._typing import ArrayLike, PathLike

if TYPE_CHECKING:
    from ._aligned import AlignedASM

__all__ = [
    "AffineAlignment",
    "Outliers",
    "Symmetry",
    "affine_procrustes",
    "centroid_size",
    "find_outliers",
    "symmetry",
    "write_table",
]


def centroid_size(shapes: ArrayLike) -> Any:
    """Return the root of the summed squared distances of the landmarks to their centroid.

    Parameters
    ----------
    shapes : array_like of shape (..., n_landmarks, n_dims)
        NaN where a landmark is missing; the size of such a shape is NaN, as it depends on what is not known. Complete
        the shape first (`AlignedASM.complete`).

    Returns
    -------
    float or ndarray of shape (...)
        In the units of the shapes.

    References
    ----------
    F. L. Bookstein, "Morphometric Tools for Landmark Data", 1991, section 5.5.

    Examples
    --------
    >>> from shape_models import centroid_size
    >>> float(centroid_size([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])) ** 2
    8.000000000000002
    """
    array = as_shapes(shapes, allow_nan=True, min_landmarks=1).astype(np.float64)
    refuse_extremes_of(array)
    return np.sqrt(((array - array.mean(axis=-2, keepdims=True)) ** 2).sum(axis=(-2, -1)))


@brief
@dataclass(frozen=True, eq=False)
class Symmetry:
    """Symmetric and asymmetric components of shapes: the result of `symmetry`.

    Attributes
    ----------
    aligned : ndarray of shape (n_samples, n_landmarks, n_dims)
        The superimposed shapes, ``symmetric + asymmetric``.
    symmetric : ndarray of shape (n_samples, n_landmarks, n_dims)
        Mean of each shape and its relabelled mirror image.
    asymmetric : ndarray of shape (n_samples, n_landmarks, n_dims)
        What is left: half the difference of the two.
    mean : ndarray of shape (n_landmarks, n_dims)
        The symmetric mean.
    directional : ndarray of shape (n_landmarks, n_dims)
        Mean of `asymmetric`: the asymmetry that the objects have in common.
    asymmetry : ndarray of shape (n_samples,)
        How asymmetric each specimen is: the norm of its `asymmetric`, as a fraction of the centroid size.
    fluctuating : ndarray of shape (n_samples,)
        The same, without the directional asymmetry.

    Examples
    --------
    >>> from shape_models import IBUG68, make_faces, symmetry
    >>> symmetry(make_faces(20, rng=0), IBUG68).asymmetry.shape
    (20,)
    """

    aligned: np.ndarray
    symmetric: np.ndarray
    asymmetric: np.ndarray
    mean: np.ndarray
    directional: np.ndarray
    asymmetry: np.ndarray
    fluctuating: np.ndarray


def symmetry(shapes: ArrayLike, mirror: ArrayLike, *, criterion: Literal["full", "partial"] = "partial") -> Symmetry:
    """Decompose shapes of symmetric objects into symmetric and asymmetric components (object symmetry).

    The shapes and their mirror images, with left and right exchanged, are superimposed together. The mean of a shape
    and its mirror image is symmetric, and half their difference is the asymmetry; ``Morpho::procSym`` does the same.

    Parameters
    ----------
    shapes : array_like of shape (n_samples, n_landmarks, n_dims)
        Complete.
    mirror : array of int of shape (n_landmarks,), or LandmarkScheme
        Landmark ``mirror[k]`` is the other side's k, and k itself on the plane of symmetry.
    criterion : {"partial", "full"}, default="partial"
        Of the superimposition, as in `generalized_procrustes`.

    Returns
    -------
    Symmetry

    Raises
    ------
    ValueError
        When `mirror` is no involution, for missing landmarks, and as `generalized_procrustes`.

    References
    ----------
    C. P. Klingenberg, M. Barluenga, A. Meyer, "Shape analysis of symmetric structures: quantifying variation among
    individuals and asymmetry", Evolution 56, 2002.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import symmetry
    >>> upright = np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    >>> crooked = upright + [[0.0, 0.0], [0.0, 0.0], [0.2, 0.0]]
    >>> result = symmetry([upright, crooked], [1, 0, 2])
    >>> bool(result.asymmetry[0] < 1e-12), bool(result.asymmetry[1] > 0.01)
    (True, True)
    """
    array = as_shapes(shapes, n_dims=(2, 3), min_samples=2).astype(np.float64)
    images = mirror_shapes(array, mirror)
    both = generalized_procrustes(np.concatenate([array, images]), criterion=criterion)
    aligned, turned = np.split(both.aligned, 2)
    symmetric, asymmetric = 0.5 * (aligned + turned), 0.5 * (aligned - turned)
    directional = asymmetric.mean(axis=0)
    size = np.linalg.norm(both.mean)
    return Symmetry(
        aligned=aligned,
        symmetric=symmetric,
        asymmetric=asymmetric,
        mean=both.mean,
        directional=directional,
        asymmetry=np.linalg.norm(asymmetric, axis=(1, 2)) / size,
        fluctuating=np.linalg.norm(asymmetric - directional, axis=(1, 2)) / size,
    )


@brief
@dataclass(frozen=True, eq=False)
class AffineAlignment:
    """Shapes superimposed by affine maps, and the maps: the result of `affine_procrustes`.

    Attributes
    ----------
    aligned : ndarray of shape (n_samples, n_landmarks, n_dims)
    mean : ndarray of shape (n_landmarks, n_dims)
        Centroid at the origin, coordinates uncorrelated and of equal spread, centroid size 1.
    matrices : ndarray of shape (n_samples, n_dims, n_dims)
    translations : ndarray of shape (n_samples, n_dims)
        ``aligned = shapes @ matrices.mT + translations``.
    distances : ndarray of shape (n_samples,)
        Root of the squared distances to the mean.

    Examples
    --------
    >>> from shape_models import affine_procrustes, make_faces
    >>> affine_procrustes(make_faces(5, rng=0)).matrices.shape
    (5, 2, 2)
    """

    aligned: np.ndarray
    mean: np.ndarray
    matrices: np.ndarray
    translations: np.ndarray
    distances: np.ndarray


def affine_procrustes(shapes: ArrayLike) -> AffineAlignment:
    """Superimpose shapes by affine maps, which leaves differences in bending and removes stretching and shearing.

    The mean makes the sum of squared distances least among means whose coordinates are uncorrelated and of equal
    spread; it has a closed form, the leading eigenvectors of the sum of the projections on the columns of the centred
    shapes. Of the rotations that it leaves open the one nearest to the Procrustes mean is taken.

    Parameters
    ----------
    shapes : array_like of shape (n_samples, n_landmarks, n_dims)
        Complete, at least two, with more landmarks than dimensions.

    Returns
    -------
    AffineAlignment

    Raises
    ------
    DegenerateShapeError
        For shapes that lie on a line (3-D: in a plane).
    ValueError
        For wrong shapes and missing landmarks.

    References
    ----------
    C. Goodall, "Procrustes methods in the statistical analysis of shape", JRSS B 53, 1991, section 8; F. J. Rohlf, D.
    Slice, "Extensions of the Procrustes method for the optimal superimposition of landmarks", Syst. Zool. 39, 1990.

    Examples
    --------
    >>> import numpy as np
    >>> from shape_models import affine_procrustes
    >>> rng = np.random.default_rng(0)
    >>> sheared = rng.normal(size=(1, 6, 2)) @ rng.normal(size=(4, 2, 2)) + rng.normal(size=(4, 1, 2))
    >>> bool(affine_procrustes(sheared).distances.max() < 1e-12)
    True
    """
    array = as_shapes(shapes, n_dims=(2, 3), min_samples=2).astype(np.float64)
    n, k, d = array.shape
    centre = array.mean(axis=1, keepdims=True)
    offset = array - centre
    u, extent, vt = np.linalg.svd(offset, full_matrices=False)
    # Points that leave a dimension only by rounding cannot be spread evenly in it.
    flat = ~(extent[:, -1] > 1e-9 * extent[:, 0]) if k > d else np.ones(n, dtype=bool)
    if flat.any():
        what = "one line" if d == 2 else "one plane"
        raise DegenerateShapeError(f"shapes[{int(np.argmax(flat))}] lies on {what}, so no affine map to it is best.")
    _, vectors = np.linalg.eigh(np.einsum("nkd,nld->kl", u, u))
    basis = vectors[:, -d:] / np.sqrt(d)  # the eigenvectors that lead, of size 1 together
    near = generalized_procrustes(array, criterion="partial").mean
    left, _, right = np.linalg.svd(basis.T @ near)
    mean = basis @ left @ right
    transposed = np.swapaxes(vt, 1, 2) / extent[:, None, :] @ (np.swapaxes(u, 1, 2) @ mean)
    aligned = offset @ transposed
    return AffineAlignment(
        aligned=aligned,
        mean=mean,
        matrices=np.swapaxes(transposed, 1, 2),
        translations=-(centre @ transposed)[:, 0],
        distances=np.linalg.norm(aligned - mean, axis=(1, 2)),
    )


@brief
@dataclass(frozen=True, eq=False)
class Outliers:
    """Unusual shapes, misplaced landmarks and exchanged pairs: the result of `find_outliers`.

    Attributes
    ----------
    distances : ndarray of shape (n_samples,)
        Root mean square distance of the landmarks to the mean, robustly superimposed, as a fraction of its size.
    unusual : ndarray of bool of shape (n_samples,)
        Distances beyond three quartile ranges above the upper quartile.
    doubtful : ndarray of bool of shape (n_samples, n_landmarks)
        Landmarks much farther from their place than the same landmark of other shapes, and than others of the shape.
    swapped : dict of int to (int, int)
        Shapes in which two landmarks have very likely been exchanged: number of the shape, and the two landmarks.

    Examples
    --------
    >>> from shape_models import find_outliers, make_faces
    >>> find_outliers(make_faces(30, rng=0)).swapped
    {}
    """

    distances: np.ndarray
    unusual: np.ndarray
    doubtful: np.ndarray
    swapped: dict[int, tuple[int, int]]


_FENCE = 3.0  # quartile ranges beyond the quartile: Tukey's outer fence
_DOUBT = 3.0  # scales of a landmark, and of its shape, beyond which it is doubtful
_SWAP = 0.3  # fraction of the squared distance of two landmarks that is left when they are exchanged


def find_outliers(shapes: ArrayLike) -> Outliers:
    """Find shapes that are unlike the others, misplaced landmarks, and pairs of landmarks that were exchanged.

    The shapes are superimposed robustly (``loss="tukey"``), so that what lies wrong does not drag the rest along.

    Parameters
    ----------
    shapes : array_like of shape (n_samples, n_landmarks, n_dims)
        At least 5; NaN where missing.

    Returns
    -------
    Outliers

    Raises
    ------
    ValueError
        As `generalized_procrustes`, and for fewer than 5 shapes.

    Examples
    --------
    >>> from shape_models import find_outliers, make_faces
    >>> faces = make_faces(30, rng=0)
    >>> faces[4, [36, 45]] = faces[4, [45, 36]]              # the outer corners of the eyes exchanged
    >>> find_outliers(faces).swapped
    {4: (36, 45)}
    """
    array = as_shapes(shapes, n_dims=(2, 3), min_samples=5, allow_nan=True).astype(np.float64)
    n, k = array.shape[:2]
    found = generalized_procrustes(array, loss="tukey")
    aligned = found.transforms(array)
    off = np.linalg.norm(aligned - found.mean, axis=-1)
    distances = np.sqrt(np.nanmean(off**2, axis=1)) / np.linalg.norm(found.mean) * np.sqrt(k)
    low, high = np.quantile(distances, [0.25, 0.75])
    unusual = distances > high + _FENCE * (high - low)
    scale = np.nanmedian(off, axis=0)
    own = np.nanmedian(off / np.where(scale > 0, scale, 1.0), axis=1)
    # A shape that is unlike the others as a whole is measured by its own median error.
    doubtful = off > _DOUBT * scale * np.maximum(own, 1.0)[:, None]
    swapped = {}
    for i in range(n):
        apart = ((aligned[i][:, None] - found.mean[None]) ** 2).sum(axis=-1)  # of landmark a to the place of b
        stay = np.diag(apart)[:, None] + np.diag(apart)[None]
        move = apart + apart.T
        far = np.triu(doubtful[i][:, None] & doubtful[i][None], 1) & (move < _SWAP * stay)
        if far.any():
            gain = np.where(far, stay - move, -np.inf)
            a, b = np.unravel_index(int(np.argmax(gain)), gain.shape)
            swapped[i] = (int(a), int(b))
    return Outliers(distances, unusual, doubtful, swapped)


def write_table(
    path: PathLike,
    shapes: ArrayLike,
    model: AlignedASM | None = None,
    *,
    names: Sequence[str] | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
    n_components: int | None = None,
) -> Path:
    """Write a table of sizes and scores, one row a specimen, for R (``read.csv``) or a spreadsheet.

    Parameters
    ----------
    path : path
        The ``.csv`` file; it appears complete or not at all.
    shapes : array_like of shape (n_samples, n_landmarks, n_dims)
        As they were digitised.
    model : AlignedASM, optional
        Its coefficients become the columns PC1, PC2, ..., and the Procrustes distance to its mean the column
        ``distance``. By default one with all modes is fitted to the shapes.
    names : sequence of str, optional
        The column ``name``; by default the numbers from 0.
    columns : mapping of str to sequence, optional
        Further columns, for instance groups or the asymmetry of each specimen.
    n_components : int, optional
        How many scores; all of the model's by default.

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        When a column has another length, or a name that is taken.

    Examples
    --------
    >>> import tempfile
    >>> from shape_models import make_faces, write_table
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_table(folder + "/faces.csv", make_faces(10, rng=0), n_components=2, columns={"sex": "fm" * 5})
    ...     path.read_text().splitlines()[0]
    'name,sex,centroid_size,distance,PC1,PC2'
    """
    from ._aligned import AlignedASM
    from ._asm import ASM

    array = as_shapes(shapes, n_dims=(2, 3), min_samples=1, allow_nan=True)
    model = AlignedASM(ASM(None, limit=None)).fit(array) if model is None else model
    if not isinstance(model, AlignedASM):
        raise TypeError(f"model: got {type(model).__name__}; expected a fitted AlignedASM, or None.")
    aligned, _ = model.align(array)
    scores = np.asarray(model.asm_.transform(np.asarray(aligned)))[:, :n_components]
    missing = np.isnan(array).any(axis=(1, 2))
    apart = np.linalg.norm(np.asarray(aligned) - model.alignment_.mean_shape_, axis=(1, 2))
    table: dict[str, Sequence[Any]] = {"name": list(range(len(array))) if names is None else list(names)}
    computed: dict[str, Sequence[Any]] = {
        "centroid_size": centroid_size(array).tolist(),
        "distance": np.where(missing, np.nan, apart).tolist(),
        **{f"PC{j + 1}": scores[:, j].tolist() for j in range(scores.shape[1])},
    }
    for name, values in (columns or {}).items():
        if name in table or name in computed:
            raise ValueError(f"columns: got {name!r}, which the table has already; expected another name.")
        table[name] = list(values)
    table |= computed
    for name, values in table.items():
        if len(values) != len(array):
            raise ValueError(f"{name}: got {len(values)} values; expected one for each of {len(array)} shapes.")
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    for row in zip(*table.values(), strict=True):
        writer.writerow(["NA" if isinstance(v, float) and np.isnan(v) else v for v in row])
    target = as_path(path)
    write_text(target, text.getvalue())
    return target
