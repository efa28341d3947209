"""Regressed patches: histograms of gradient directions round each landmark say where the landmark has to go."""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from .._array import as_count
from .._options import check_flags
from ._folds import splits
from ._kernels import N_ORIENTATIONS, describe
from .evidence import Evidence, Proposal, View, saved

__all__ = ["Patches"]

# Penalties that are tried, in mean eigenvalues: from next to none to so large that the landmark stays where it is.
_RIDGES = 10.0 ** np.arange(-4.0, 3.5, 0.5)
_CONTEXT_RIDGES = 10.0 ** np.arange(-1.0, 2.0, 0.5)  # more unknowns than images: they need some
_PRIOR = 1e-4  # of the modes; chosen, like the exponents of the weights, on folds of 300-W train, plain and covered
_FAR = 1e4  # times the typical error, from which more makes no difference, and powers of it would overflow
_MAX_CONTEXT = 2200  # unknowns of the regression from all landmarks together
_LEAST_LOCAL = 64  # principal components of descriptors in the regressions of single landmarks, or as many as there
# are images: the others cannot be told from noise
_MOST_CHOICE = 8  # landmarks that choose the penalty of all: half a decade more or less changes little
_N_PRINCIPAL = 20_000  # descriptors that these components are learned from
_BLOCK = 1 << 24  # numbers of descriptors held at once before they are reduced


@saved
class Patches(Evidence):
    """A cascade of ridge regressors on 2-D gradient descriptors, the family of supervised descent.

    The image is brought to the pose of the current shape; there each landmark gets a grid of cells with histograms
    of eight gradient directions (square roots of shares, so that brightness and contrast drop out).

    * The first step regresses pose and modes on the descriptors of all landmarks together, which reaches far.
    * Each later step regresses the displacement of each landmark on its own descriptor, and pose and modes on all
      displacements together. A second regressor says how far each landmark will still be off; landmarks with large
      expected errors (occlusions) are replaced by what the others imply.

    All ridge penalties are chosen by cross-validation over images, and each step is trained on shapes as earlier steps
    leave them on images they have not seen.

    Parameters
    ----------
    n_steps : int
        Steps at each level.
    n_cells : int
        Cells along each side of a patch.
    spacing : float
        Distance of cells, pixels of the level.
    context_components : int
        Principal components of each descriptor that the first step uses; fewer where there are many landmarks.
    fill : bool
        Whether landmarks with large expected errors are carried by the others.

    References
    ----------
    X. Xiong, F. De la Torre, "Supervised descent method and its applications to face alignment", CVPR (2013).
    S. Milborrow, F. Nicolls, "Active shape models with SIFT descriptors and MARS", VISAPP (2014).

    Examples
    --------
    >>> from shape_models.search import ASMFitter, Patches
    >>> ASMFitter(evidence=Patches(n_cells=4)).evidence.n_cells
    4
    """

    level_step = 1.73
    resolution = 144.0
    stays = 2.0
    stops = False
    learns_occlusion = True

    def __init__(
        self,
        *,
        n_steps: int = 2,
        n_cells: int = 6,
        spacing: float = 4.0,
        context_components: int = 32,
        fill: bool = True,
    ) -> None:
        check_flags(fill=fill)
        for name, value in (("n_steps", n_steps), ("n_cells", n_cells), ("context_components", context_components)):
            as_count(value, name)
        if not 1.0 <= float(spacing) <= 64.0:
            raise ValueError(f"spacing: got {spacing!r}; expected 1 to 64 pixels.")
        self.n_steps = n_steps
        self.n_cells = n_cells
        self.spacing = spacing
        self.context_components = context_components
        self.fill = fill
        self.stages_ = {}

    @property
    def n_iter(self) -> int:  # type: ignore[override]
        """Iterations a level: its steps."""
        return self.n_steps

    # --- features ------------------------------------------------------------------------------------------

    def _describe(self, view: View, context: bool) -> np.ndarray:
        """Descriptors (n, K, n_cells² · 8) in the pose of the current shapes."""
        frame = view._frame
        # The first step has few unknowns to spare: four cells along a side cover the same patch.
        n_cells = min(4, self.n_cells) if context else self.n_cells
        spacing = float(self.spacing) * (self.n_cells - 1) / max(n_cells - 1, 1) if context else float(self.spacing)
        per_unit = view.resolution / frame.side
        # The patch of the outermost landmark and some freedom of the shape must lie inside the normalised frame.
        margin = (0.5 * n_cells * spacing + 2) / per_unit + 0.12 * frame.side
        low, high = frame.mean.min(0) - margin, frame.mean.max(0) + margin
        width, height = (2 * int(np.ceil((high - low)[k] * per_unit / 2)) for k in (0, 1))
        at = (view.in_model(view.points) - low) * per_unit
        table, to_level = view.bank.place(view.index, view._flip, view.pixel)
        # Pixels of the normalised frame -> model -> image -> pyramid level.
        a = view._pose.a / per_unit
        b = view._pose.a * complex(*low) + view._pose.b
        matrices = np.empty((len(view), 2, 3))
        matrices[:, 0] = np.stack([a.real, -a.imag, b.real], -1)
        matrices[:, 1] = np.stack([a.imag, a.real, b.imag], -1)
        matrices *= to_level[:, :, :1]
        matrices[:, :, 2] += to_level[:, :, 1]
        out = np.empty((*view.points.shape[:2], n_cells**2 * N_ORIENTATIONS), np.float32)

        def run(start: int, stop: int) -> None:
            describe(
                view.bank.buffer,
                table[start:stop],
                matrices[start:stop],
                (height, width),
                at[start:stop],
                spacing,
                n_cells,
                out[start:stop],
            )

        view._map(run, len(view))
        return out

    def _reduced(self, view: View, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return centred descriptors (n, K, c) of a training view, what was their mean (K, d), and the basis (d, c).

        Where there are few images the descriptors are reduced to principal components, those of all landmarks
        together; None for the basis where all are kept.
        """
        n, k = view.points.shape[:2]
        d = self.n_cells**2 * N_ORIENTATIONS
        c = max(_LEAST_LOCAL, np.unique(np.stack([view.index, view._flip]), axis=1).shape[1])
        if c >= d:
            features = self._describe(view, False)
            center = features.mean(axis=0)
            features -= center
            return features, center, None
        features = np.empty((n, k, c), np.float32)
        center = np.zeros((k, d))
        order, some = rng.permutation(n), max(1, _N_PRINCIPAL // k)
        step = max(some, _BLOCK // (k * d))
        for first in range(0, n, step):
            rows = order[first : first + step]
            part = self._describe(view.take(rows), False)
            if not first:
                rest = (part[:some] - part[:some].mean(axis=0)).reshape(-1, d)
                principal = np.ascontiguousarray(np.linalg.eigh(rest.T @ rest)[1][:, ::-1][:, :c])
            center += part.sum(axis=0)
            features[rows] = part @ principal
        center = (center / n).astype(np.float32)
        features -= center @ principal
        return features, center, principal

    # --- one step ------------------------------------------------------------------------------------------

    def locate(self, view: View) -> Proposal:
        """Propose landmarks by the regressors of this step.

        Parameters
        ----------
        view : View
            Current landmarks and their images.

        Returns
        -------
        Proposal
            Where the landmarks should go, and how sure that is.
        """
        stage = self._stage(view, f"{view.level}.{min(view.iteration, self.n_steps - 1)}")
        features = self._describe(view, "context" in stage)
        aligned = view.in_model(view.points)
        n = len(view)
        if "context" in stage:
            flat = features.reshape(n, -1) - stage["center"]
            move = flat @ (stage["context"].astype(np.float32) * stage["scale"]) + stage["offset"]
            return self._propose(view, aligned, move, None, None)
        features -= stage["center"].reshape(features.shape[1:])
        local = np.matmul(features.transpose(1, 0, 2), stage["local"]).transpose(1, 0, 2)
        error = np.exp(0.5 * (local[..., 2] + stage["log_error"]))
        return self._joint(view, aligned, local[..., :2], error, stage)

    def _joint(
        self, view: View, aligned: np.ndarray, local: np.ndarray, error: np.ndarray, stage: dict[str, np.ndarray]
    ) -> Proposal:
        n = len(aligned)
        trust, score = self._trust(error, stage)
        flat = local.reshape(n, -1)
        move = flat @ stage["modes"]
        if self.fill:
            # Where the whole image is hard, no landmark is worse than the others.
            ratio = np.minimum(error / stage["typical"], _FAR)
            ratio /= np.maximum(np.median(ratio, axis=1, keepdims=True), 1.0)
            keep = np.repeat(1.0 / (1.0 + ratio**4), 2, axis=1)
            for _ in range(3):
                move = (keep * flat + (1 - keep) * (move @ stage["implied"])) @ stage["modes"]
        return self._propose(view, aligned, move + stage["offset"], trust, score)

    @staticmethod
    def _trust(error: np.ndarray, stage: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        trust = 1.0 / (1.0 + np.minimum(error / stage["typical"], _FAR) ** 4) ** 2
        return trust, -(np.log(error) - 0.5 * stage["log_error"]).mean(axis=1)

    def _propose(
        self, view: View, aligned: np.ndarray, move: np.ndarray, trust: np.ndarray | None, score: np.ndarray | None
    ) -> Proposal:
        step = (move @ view._frame.tangent).reshape(aligned.shape)
        return Proposal(view.in_image(aligned + step), trust, score, 0.0 if trust is None else _PRIOR)

    # --- training ------------------------------------------------------------------------------------------

    def train(self, view: View, truth: np.ndarray, fold: np.ndarray, rng: np.random.Generator) -> Proposal:
        """Learn one step, and answer what it proposes on images left out of its training.

        Parameters
        ----------
        view : View
            Current landmarks and their images.
        truth : ndarray of shape (n, K, 2)
            True landmarks, pixels of the images.
        fold : ndarray of int of shape (n,)
            Fits of one fold come from images that the other folds do not hold.
        rng : numpy.random.Generator
            Source of all draws.

        Returns
        -------
        Proposal
            What is proposed on images left out of the training.
        """
        context = view.level == 0 and view.iteration == 0
        aligned = view.in_model(view.points)
        wanted = (view.in_model(truth) - aligned).astype(np.float32)
        key = f"{view.level}.{view.iteration}"
        tangent = view._frame.tangent.astype(np.float32)
        n = len(view)
        shift = wanted.mean(axis=0)
        offset = shift.ravel() @ tangent.T
        target = (wanted - shift).reshape(n, -1) @ tangent.T
        if context:
            features = self._describe(view, True)
            center = features.mean(axis=0)
            features -= center
            count = min(self.context_components, features.shape[-1])
            weights, predicted = _context_ridge(features, target, fold, count, rng)
            scale = np.float32(np.abs(weights).max(initial=1e-30))
            self.stages_[key] = {
                "center": np.ascontiguousarray(center.ravel()),
                "context": (weights / scale).astype(np.float16),  # most of the numbers of a model: half the file
                "scale": scale.reshape(1),
                "offset": offset.astype(np.float32),
            }
            return self._propose(view, aligned, predicted + offset, None, None)
        features, center, principal = self._reduced(view, rng)
        local, displaced, log_error, expected = _local_ridge(features, wanted - shift, fold)
        if principal is not None:
            local = principal @ local
        modes, predicted = ridge(displaced.reshape(n, -1), target, fold, _RIDGES)
        error = np.exp(0.5 * (expected + log_error))
        # What displacements a move of pose and modes implies, shrunk as the regressors shrink them.
        gram = predicted.T.astype(np.float64) @ predicted
        # A millionth: only so that modes that never move do not divide by zero.
        implied = _solve(gram, predicted.T.astype(np.float64) @ displaced.reshape(n, -1), 1e-6 * np.trace(gram) + 1e-30)
        stage = {
            "center": center.ravel(),
            "local": local,
            "modes": modes,
            "implied": implied,
            "offset": offset,
            "log_error": log_error,
            # A landmark loses three quarters of its weight where its expected error is far above what is usual for it.
            "typical": np.quantile(error, 0.9, axis=0).astype(np.float32),
        }
        self.stages_[key] = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in stage.items()}
        trust, score = self._trust(error, self.stages_[key])
        return self._propose(view, aligned, predicted + offset, trust, score)


def _split(z: np.ndarray, y: np.ndarray, fold: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    grams, moments = [], []
    for f in range(int(fold.max()) + 1):
        part = z[fold == f]
        grams.append(part.T @ part)
        moments.append(part.T @ y[fold == f])
    return grams, moments


def ridge(z: np.ndarray, y: np.ndarray, fold: np.ndarray, ridges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression of y (n, t) on z (n, f); the penalty by cross-validation.

    Returns
    -------
    weights : ndarray (f, t), from all samples
    predicted : ndarray (n, t), each sample by the folds it is not in
    """
    if len(z) < z.shape[1]:
        return _dual_ridge(z, y, fold, ridges)
    grams, moments = _split(z, y, fold)
    gram, moment = np.sum(grams, axis=0), np.sum(moments, axis=0)
    scale = max(float(np.trace(gram)) / len(gram), 1e-20)
    best, predicted, chosen = np.inf, np.zeros_like(y), float(ridges[-1])
    spectral = len(gram) <= 400
    if spectral:
        parts = [np.linalg.eigh((gram - g).astype(np.float64)) for g in grams]
    for ridge in ridges:
        answer = np.empty_like(y)
        for f, (g, m) in enumerate(zip(grams, moments, strict=True)):
            if spectral:
                values, vectors = parts[f]
                w = vectors @ ((vectors.T @ (moment - m)) / (np.maximum(values, 0) + ridge * scale)[:, None])
            else:
                w = _solve(gram - g, moment - m, ridge * scale)
            answer[fold == f] = z[fold == f] @ w.astype(z.dtype)
        error = float(((answer - y) ** 2).sum(dtype=np.float64))
        if error < best:
            best, predicted, chosen = error, answer, float(ridge)
    return _solve(gram.astype(np.float64), moment, chosen * scale).astype(np.float32), predicted


def _dual_ridge(z: np.ndarray, y: np.ndarray, fold: np.ndarray, ridges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Do the same where there are fewer samples than unknowns, through the inner products of the samples."""
    inner = (z @ z.T).astype(np.float64)
    scale = max(float(np.trace(inner)) / z.shape[1], 1e-20)
    answers = np.zeros((len(ridges), *y.shape))
    for train, test in splits(fold):
        values, vectors = np.linalg.eigh(inner[np.ix_(train, train)])
        turned, side = inner[np.ix_(test, train)] @ vectors, vectors.T @ y[train]
        for i, ridge in enumerate(ridges):
            answers[i, test] = turned @ (side / (np.maximum(values, 0) + ridge * scale)[:, None])
    best = int(((answers - y) ** 2).sum(axis=(1, 2)).argmin())
    dual = _solve(inner, y.astype(np.float64), float(ridges[best]) * scale)
    return np.ascontiguousarray(z.T @ dual, dtype=np.float32), answers[best].astype(y.dtype)


def _solve(gram: np.ndarray, moment: np.ndarray, ridge: float) -> np.ndarray:
    matrix = gram.copy()
    matrix[np.diag_indices_from(matrix)] += ridge
    return np.asarray(
        cho_solve(cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False), moment, check_finite=False)
    )


def _context_ridge(
    features: np.ndarray, target: np.ndarray, fold: np.ndarray, n_components: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Regress pose and modes on the principal components of all descriptors together."""
    n, k, d = features.shape
    c = max(1, min(n_components, _MAX_CONTEXT // k))
    some = rng.choice(n, min(n, 3000), replace=False)
    vectors = np.empty((k, d, c), np.float32)
    reduced = np.empty((n, k, c), np.float32)
    for j in range(k):
        part = features[some, j]
        vectors[j] = np.linalg.eigh(part.T @ part)[1][:, ::-1][:, :c]
        reduced[:, j] = features[:, j] @ vectors[j]
    weights, predicted = ridge(reduced.reshape(n, -1), target, fold, _CONTEXT_RIDGES)
    full = np.matmul(vectors, weights.reshape(k, c, -1)).reshape(k * d, -1)
    return np.ascontiguousarray(full), predicted


def _local_ridge(
    features: np.ndarray, wanted: np.ndarray, fold: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Regress the displacement of each landmark on its own descriptor, and the error that remains.

    Returns
    -------
    weights : ndarray (K, d, 3): x, y, and the log of the squared error about its mean
    displaced : ndarray (n, K, 2), cross-validated
    log_error : ndarray (K,), mean of the log of the squared error that remains
    expected : ndarray (n, K), what is predicted of it, cross-validated, about that mean
    """
    _, k, d = features.shape
    rows = [test for _, test in splits(fold)]
    by_landmark = features.transpose(1, 0, 2)  # a view: the descriptors are most of the memory of a training
    grams = np.stack([part.transpose(0, 2, 1) @ part for part in (by_landmark[:, r] for r in rows)], axis=1)
    total = grams.sum(axis=1)
    scale = np.maximum(np.trace(total, axis1=1, axis2=2) / d, 1e-20)
    some = np.unique(np.linspace(0, k - 1, min(k, _MOST_CHOICE)).astype(int))
    spectra = [[np.linalg.eigh(total[j] - grams[j, f]) for f in range(len(rows))] for j in some]

    def regress(target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return weights (K, d, m), and what the other folds predict (n, K, m), with the penalty best for some."""
        folds = [by_landmark[:, r].transpose(0, 2, 1) @ target[r].transpose(1, 0, 2) for r in rows]
        moments = np.stack(folds, axis=1)
        rest = moments.sum(axis=1, keepdims=True) - moments
        losses = np.zeros(len(_RIDGES))
        for j, spectrum in zip(some, spectra, strict=True):
            for f, (r, (values, vectors)) in enumerate(zip(rows, spectrum, strict=True)):
                turned, side = by_landmark[j, r] @ vectors, vectors.T @ rest[j, f]
                for i, ridge in enumerate(_RIDGES):
                    answer = turned @ (side / (np.maximum(values, 0) + np.float32(ridge * scale[j]))[:, None])
                    losses[i] += ((answer - target[r, j]) ** 2).sum(dtype=np.float64)
        penalty = float(_RIDGES[int(np.argmin(losses))]) * scale[:, None, None] * np.eye(d)
        predicted = np.empty(target.shape, np.float32)
        for f, r in enumerate(rows):
            weights = np.linalg.solve(total - grams[:, f] + penalty, rest[:, f]).astype(np.float32)
            predicted[r] = (by_landmark[:, r] @ weights).transpose(1, 0, 2)
        return np.linalg.solve(total + penalty, moments.sum(axis=1)).astype(np.float32), predicted

    weights, displaced = regress(wanted)
    # How large is the error that remains?
    # A landmark found to a ten-thousandth of its usual displacement is found exactly: its logarithm is bounded.
    remaining = np.log(((displaced - wanted) ** 2).sum(-1) + 1e-8 * float((wanted**2).mean()) + 1e-30)
    log_error = remaining.mean(axis=0)
    second, expected = regress((remaining - log_error)[..., None])
    return np.concatenate([weights, second], axis=2), displaced, log_error, expected[..., 0]
