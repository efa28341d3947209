"""From an image to landmarks, pose and plausibility in one call."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

import numpy as np
import torch

from asmnet._crops import Crops, tight_boxes
from asmnet._face import FacePrediction
from asmnet._images import as_rgb
from asmnet._inference import Answers
from asmnet._looks import VIEWS, Look, Settling
from asmnet._options import as_device, check_counts, check_kind
from asmnet.checkpoints import PretrainedModel, count_landmarks, load_pretrained
from asmnet.layers import fuse_norms
from asmnet.uncertainty import Findings, Uncertainty
from shape_models import AlignedASM, fit_shape, load_model
from shape_models._options import check_flags
from shape_models._scatter import mean_length
from shape_models._typing import ArrayLike, ImageLike
from shape_models.boxes import check_boxes

if TYPE_CHECKING:
    from shape_models.search import ASMFitter, Detector

__all__ = ["FacePrediction", "Predictor", "as_rgb"]


class _How(TypedDict, total=False):
    initial: Any
    flip_average: bool
    n_passes: int | None
    n_views: int
    batch_size: int | None
    fit: bool


class Predictor:
    """A trained network that finds landmarks in images, together with its preprocessing and shape model.

    Parameters
    ----------
    model : PretrainedModel
        See `load_pretrained`.
    shape_model : AlignedASM, optional
        For the fitted landmarks and the plausibility; by default the one that ships for the scheme, or else the one
        that was fitted to the training landmarks and stands in the model, if any.
    uncertainty : Uncertainty, optional
        What the landmarks are worth; by default what the model says of itself. Without either, the maxima of heat maps
        are fitted as by `shape_models.search.fit_heatmaps`, and other landmarks are projected.
    search : ASMFitter, optional
        Of the image, from the landmarks of the network: where `uncertainty` was learned with one, its landmarks are
        joined with those of the network. By default ``"search68"``.
    device : str
        Where the network runs.

    Examples
    --------
    >>> import numpy as np
    >>> from asmnet import ASMNet, Predictor, Preprocessing
    >>> from asmnet.checkpoints import PretrainedModel
    >>> model = PretrainedModel(ASMNet(5).eval(), "tiny", "asmnet", {}, None, Preprocessing(size=32), None, {})
    >>> faces = Predictor(model)(np.zeros((40, 60), np.uint8), [[10, 10, 30, 30], [35, 12, 55, 30]])
    >>> len(faces), faces[0].landmarks.shape
    (2, (5, 2))
    """

    def __init__(
        self,
        model: PretrainedModel,
        *,
        shape_model: AlignedASM | None = None,
        uncertainty: Uncertainty | None = None,
        search: ASMFitter | None = None,
        device: str = "cpu",
    ):
        check_kind("model", model, PretrainedModel, " Try Predictor.from_pretrained with a name or a path.")
        self.model = model
        self.device = as_device(device)
        self.network = fuse_norms(model.network).to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if shape_model is None and model.scheme is not None and model.scheme.name == "ibug68":
            shape_model = load_model("face68")  # of more faces than most have
        if shape_model is None:
            shape_model = model.shape_model
        for name, value, kind in (("shape_model", shape_model, AlignedASM), ("uncertainty", uncertainty, Uncertainty)):
            if value is not None:
                check_kind(name, value, kind)
        if search is not None and not hasattr(search, "predict"):
            raise TypeError(f"search: got {search!r}; expected an ASMFitter. Try load_model.")
        if shape_model is not None and shape_model.asm_.event_shape_ != (count_landmarks(model), 2):
            raise ValueError(
                f"shape_model: got one of shapes {shape_model.asm_.event_shape_}; expected "
                f"({count_landmarks(model)}, 2), as the network answers."
            )
        self.shape_model = shape_model
        self.uncertainty = model.uncertainty if uncertainty is None else uncertainty
        self._search = search

    @functools.cached_property
    def search(self) -> ASMFitter:
        """The search of the image that the landmarks are joined with, where one is."""
        search: ASMFitter = load_model("search68") if self._search is None else self._search
        return search

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, *, device: str = "cpu") -> Predictor:
        """Load a model that ships with the library, by name, or a file.

        Parameters
        ----------
        name_or_path : str or path
            ``"asmnet-68"``, ``"hourglass-68"``, or a file written by `save_pretrained`.
        device : str
            ``"cpu"``, ``"cuda"``, ...
        """
        return cls(load_pretrained(name_or_path, device=device), device=device)

    @property
    def pose_convention(self) -> str:
        """Name of the convention of the angles."""
        return str(self.model.header.get("pose_convention", "300W-LP"))

    @overload
    def __call__(
        self,
        image: list[ImageLike] | tuple[ImageLike, ...],
        boxes: Sequence[ArrayLike | None] | None = ...,
        **how: Unpack[_How],
    ) -> list[list[FacePrediction]]: ...
    @overload
    def __call__(
        self, image: ImageLike, boxes: ArrayLike | None = ..., **how: Unpack[_How]
    ) -> list[FacePrediction]: ...

    def __call__(
        self,
        image: Any,
        boxes: Any = None,
        *,
        initial: Any = None,
        flip_average: bool = False,
        n_passes: int | None = None,
        n_views: int = 1,
        batch_size: int | None = None,
        fit: bool = True,
    ) -> list[FacePrediction] | list[list[FacePrediction]]:
        """Find the landmarks of the faces in one image, or in several.

        Parameters
        ----------
        image : array_like, PIL image, path, or a list of them
            See `as_rgb`. A list gives a list of lists.
        boxes : array_like of shape (k, 4), or a list of those, optional
            x0, y0, x1, y1 in pixels. The convention of the shipped models is the tight box of the landmarks: brows to
            chin; `shape_models.boxes.convert` brings those of others to it. Without boxes, and in each image of a list
            whose entry is None, faces are searched for by `shape_models.search.find_faces`.
        initial : array_like of shape (K, 2) or (k, K, 2), or a list of those, optional
            Instead of boxes: landmarks near those of each face, such as those of the frame before in a video. The face
            is cut out by them, turned upright, and looked at again only where the answer asks for another crop.
        flip_average : bool
            Average with the prediction for the mirror image, at twice the cost; needs a scheme.
        n_passes : int, optional
            How often the network looks at each face. In each further pass the face is cut out by the landmarks of the
            pass before, turned upright. By default every face is looked at twice: the first answer stands where the
            second agrees and the box was that of its landmarks, the second where it was not or the face was not
            upright; where the two disagree, the face is tried upright, lying on either side and upside down, and the
            answer stands that changes least when the face is cut out anew. 1 is twice as fast, for upright faces in
            tight boxes.
        n_views : int
            From 1 to 7: average over that many crops, a little shifted and scaled, at as many times the cost.
        batch_size : int, optional
            Faces at a time; by default 32 on a graphics card and 4 on a processor, whose caches hold the maps of no
            more.
        fit : bool
            Whether the landmarks are joined with the shape model, and judged by it. False is faster, for example to
            track faces (``functools.partial(predictor, fit=False)``): `fitted`, `covariance`, `expected_error`,
            `plausibility` and `clipped_modes` are then left out.

        Returns
        -------
        list of FacePrediction, or a list of those
            In the order of the boxes; empty where no face was found. One list for each image of a list. Unless a
            single face of a single image was asked for, a face that cannot be looked at, for its image or box, has the
            status ``"error"`` and a message, and the others are still found.

        Raises
        ------
        ValueError
            For a single image or box that makes no sense, see `as_rgb` and `shape_models.boxes.check_boxes`; a box may
            reach beyond the image, but not lie outside of it. For arguments that do not go together.
        """
        check_flags(flip_average=flip_average, fit=fit)
        if batch_size is None:
            # One thread of a processor takes 54 ms a face of hourglass-68 by fours, 71 by sixteens and 95 by 32.
            batch_size = 32 if self.device.type == "cuda" else 4
        check_counts(n_passes=1 if n_passes is None else n_passes, n_views=n_views, batch_size=batch_size)
        if flip_average and (self.model.scheme is None or self.model.scheme.mirror is None):
            raise ValueError("flip_average needs a landmark scheme with a mirror map; the model names none.")
        if n_views > len(VIEWS):
            raise ValueError(f"n_views: got {n_views}; expected 1 to {len(VIEWS)}.")
        many = isinstance(image, list | tuple)
        given: Sequence[Any] = image if many else [image]
        if boxes is not None and initial is not None:
            raise ValueError("got boxes and initial; expected one of them.")
        name, asked = ("boxes", boxes) if initial is None else ("initial", initial)
        asked = asked if many and asked is not None else [asked] * len(given)
        if len(asked) != len(given):
            raise ValueError(f"{name}: got {len(asked)} lists for {len(given)} images; expected one for each.")
        starts = None if initial is None else [self._as_starts(one) for one in asked]
        asked = asked if starts is None else [tight_boxes(one) for one in starts]
        rows = [self._asked(one, own, alone=not many) for one, own in zip(given, asked, strict=True)]
        images, places, messages = zip(*rows, strict=True) if rows else ((), (), ())
        owner = np.repeat(np.arange(len(images)), [len(own) for own in places])
        results: list[list[FacePrediction]] = [[] for _ in images]
        if len(owner):
            boxes = np.concatenate(places)
            refused = [message for own in messages for message in own]
            good = np.array([not message for message in refused])
            seen: Iterator[FacePrediction] = iter(())
            if good.any():
                look = self._look(images, flip_average, n_views, batch_size, fit and self.shape_model is not None)
                if starts is None:
                    crops = Crops.of_boxes(boxes[good])
                else:
                    crops = self._settling.upright_crops(np.concatenate(starts)[good])
                crops, answer = self._settling(look, owner[good], crops, n_passes, known=starts is not None)
                seen = iter(self._records(images, owner[good], crops, answer, fit))
            for i, box, message in zip(owner.tolist(), boxes, refused, strict=True):
                results[i].append(self._failed(box, message, fit) if message else next(seen))
        return results if many else results[0]

    def _as_starts(self, points: Any) -> np.ndarray:
        given = np.asarray(points, dtype=np.float64)
        shapes: np.ndarray = given[None] if given.ndim == 2 else given
        if shapes.ndim != 3 or shapes.shape[1:] != (count_landmarks(self.model), 2):
            raise ValueError(
                f"initial: got shape {shapes.shape}; expected (k, {count_landmarks(self.model)}, 2), landmarks of each "
                "face in an image."
            )
        return shapes

    def _asked(self, image: Any, boxes: Any, *, alone: bool) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Return an image, the boxes of its faces, and for each of them why it cannot be looked at, or nothing.

        What makes no sense in a face that was asked for alone is raised.
        """
        try:
            pixels = as_rgb(image)
            if boxes is None:
                boxes = self.detect(pixels)
                return pixels, boxes, [""] * len(boxes)
        except ValueError as error:
            if alone:
                raise
            n = 1 if boxes is None else len(check_boxes(boxes))
            return np.zeros((2, 2, 3), np.uint8), np.full((n, 4), np.nan), [str(error)] * n
        size = pixels.shape[1::-1]
        try:
            boxes = check_boxes(boxes, size)
            return pixels, boxes, [""] * len(boxes)
        except ValueError:
            given = np.asarray(boxes, dtype=np.float64)
            rows = np.atleast_2d(given)
            if rows.ndim != 2 or rows.shape[1] != 4 or (alone and len(rows) == 1):
                raise
            return pixels, rows, [_refusal(row, size, f"boxes[{k}]") for k, row in enumerate(rows)]

    def detect(self, image: ImageLike, detector: str | Detector = "scikit-image") -> np.ndarray:
        """Find faces and return their boxes (k, 4) by the convention of the network, one for each face.

        Parameters
        ----------
        image : array_like, PIL image or path
            Upright, RGB or grey.
        detector : str or callable
            As for `shape_models.search.find_faces`.

        Returns
        -------
        ndarray of shape (k, 4)

        Raises
        ------
        ValueError
            For a model whose scheme has no eye corners, unless `detector` is a function: others search for faces.
        """
        from shape_models.search import find_faces

        scheme = self.model.scheme
        if isinstance(detector, str) and (scheme is None or "outer_eye_corners" not in scheme.anchors):
            raise ValueError(
                f"boxes: got none; expected them (--boxes), since only faces are searched for, and {self.model.name} "
                f"has {'landmarks without a scheme' if scheme is None else f'those of {scheme.name}'}."
            )
        return np.asarray(find_faces(as_rgb(image), detector).boxes, dtype=np.float64).reshape(-1, 4)

    def _look(self, images: Sequence[np.ndarray], flip: bool, n_views: int, batch_size: int, maps: bool) -> Look:
        mirror = self.model.scheme.mirror if flip and self.model.scheme is not None else None
        form, convention = self.model.preprocessing, self.pose_convention
        return Look(self.network, form, images, mirror, n_views, batch_size, self.device, maps, convention)

    @functools.cached_property
    def _settling(self) -> Settling:
        """The rule by which faces are looked at again; the mean shape of either shape model tells what is upright."""
        basis, upright = self.model.basis, None
        if basis is not None:
            upright = np.asarray(basis.mean, dtype=np.float64)
        elif self.shape_model is not None:
            upright = np.asarray(self.shape_model.asm_.basis_.mean, dtype=np.float64)
        return Settling(self.model.preprocessing, basis, upright)

    def findings(self, image: ImageLike, box: ArrayLike) -> Findings:
        """Return what `asmnet.uncertainty.learn_uncertainty` learns from.

        Parameters
        ----------
        image : array_like, PIL image or path
            See `as_rgb`.
        box : array_like of shape (4,)
            The true one of a face.

        Returns
        -------
        Findings
            Of one look, and of a search from there where one was given or the network draws no heat maps.
        """
        images, owner = [as_rgb(image)], np.zeros(1, dtype=int)
        crops = Crops.of_boxes(check_boxes(box, images[0].shape[1::-1], n=1))
        answer = self._look(images, flip=False, n_views=1, batch_size=1, maps=True)(owner, crops)
        return self._findings(images, owner, answer, search=self._search is not None or answer.maps is None)

    def _findings(self, images: Sequence[np.ndarray], owner: np.ndarray, answer: Answers, search: bool) -> Findings:
        """Return what is joined with the shape model: what the heat maps say, and a search from the landmarks."""
        points = answer.landmarks
        found = Findings(points)
        if answer.maps is not None:
            from shape_models.search import heatmap_peaks

            _, spread, height = heatmap_peaks(answer.maps, answer.matrices)
            found = found._replace(spread=spread, height=height)
        if not search:
            return found
        places, confidence = np.full(points.shape, np.nan), np.zeros(points.shape[:2])
        results = self.search.predict([images[k] for k in owner], initial=points)
        assert isinstance(results, list)
        for i, result in enumerate(results):
            if result.status != "error":
                places[i], confidence[i] = result.shape, result.confidence
        return found._replace(searched=places, confidence=confidence)

    def _failed(self, box: np.ndarray, message: str, fit: bool) -> FacePrediction:
        nothing = np.full((count_landmarks(self.model), 2), np.nan)
        fitted = nothing if fit and self.shape_model is not None else None
        return FacePrediction(box, nothing, fitted, None, self.pose_convention, status="error", message=message)

    def _joined(
        self, model: AlignedASM, images: Sequence[np.ndarray], owner: np.ndarray, answer: Answers
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, float, np.ndarray]:
        """Return landmarks joined with the shape model by what is known, with covariance, error and status of each."""
        points, learned = answer.landmarks, self.uncertainty
        found = self._findings(images, owner, answer, search=learned is not None and learned.search is not None)
        if learned is not None:
            joined, covariance, error, degrees = learned.join(model, found)
            return joined.completed, covariance, error, degrees, joined.status
        if found.spread is not None and found.height is not None:
            from shape_models.search.heatmaps import fit_peaks

            joined = fit_peaks(model, points, found.spread, found.height)
            error = mean_length(joined.covariance).mean(axis=1)
            return joined.completed, joined.covariance, error, np.inf, joined.status
        fitted = np.asarray(model.project(points))
        status, lost = np.full(len(points), "ok", dtype=object), np.isnan(fitted).any((1, 2))
        status[lost] = fit_shape(model, points[lost]).status
        return fitted, None, np.full(len(points), np.nan), np.inf, status

    def _records(
        self, images: Sequence[np.ndarray], owner: np.ndarray, crops: Crops, answer: Answers, fit: bool
    ) -> list[FacePrediction]:
        points, pose, depth = answer.landmarks, answer.pose, answer.depth
        n = len(points)
        fitted = covariance = None
        error, plausibility, degrees = np.full(n, np.nan), np.full(n, np.nan), np.inf
        clipped: list[tuple[int, ...]] = [()] * n
        status = np.full(n, "ok")
        if fit and self.shape_model is not None:
            fitted, covariance, error, degrees, status = self._joined(self.shape_model, images, owner, answer)
            whole = np.where(np.isfinite(points), points, fitted)
            known = np.flatnonzero(np.isfinite(whole).all((1, 2)))
            if len(known):
                report = self.shape_model.report(whole[known])
                plausibility[known] = report.plausibility
                for i, modes in zip(known, np.asarray(report.clipped), strict=True):
                    clipped[i] = tuple(np.flatnonzero(modes).tolist())
        return [
            FacePrediction(
                crops.boxes[i],
                points[i],
                None if fitted is None else fitted[i],
                None if pose is None else pose[i],
                self.pose_convention,
                float(plausibility[i]),
                clipped[i],
                None if depth is None else depth[i],
                float(np.rad2deg(np.remainder(crops.turns[i] + np.pi, 2 * np.pi) - np.pi)),
                None if covariance is None else covariance[i],
                float(error[i]),
                degrees,
                str(status[i]),
                "" if status[i] == "ok" else f"the landmarks cannot be fitted: {status[i]}",
            )
            for i in range(n)
        ]


def _refusal(box: np.ndarray, size: tuple[int, int], name: str) -> str:
    """Return what is wrong with a box, or nothing."""
    try:
        check_boxes(box, size, name=name)
    except ValueError as error:
        return str(error)
    return ""
