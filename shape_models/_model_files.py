"""What bases, models, alignments, limits and schemes write into a file, and how they are built from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from ._aligned import AlignedASM
from ._alignment import GeneralizedProcrustes
from ._archive import entry, expect, floats
from ._array import as_shapes, to_numpy
from ._asm import ASM
from ._basis import ShapeBasis
from ._limits import Box, Ellipsoid, SoftBox
from ._mean_shape import Mean
from ._modes import check_settings
from ._problem import Frame
from ._tails import Tails
from .curves import Curve
from .landmarks import LandmarkScheme, get_scheme


def save_basis(basis: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return header and arrays of a basis."""
    arrays = {name: to_numpy(getattr(basis, name)) for name in ("mean", "components", "variances")}
    header = {
        "frame": "model",
        "divisor": "n - 1",
        "limit": limit_to_json(basis.limit),
        "noise_variance": basis.noise_variance,
    }
    return header, arrays


def load_basis(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    """Build a basis from header and arrays."""
    expect(header, "divisor", "n - 1")
    expect(header, "frame", "model")
    mean, components, variances = (floats(arrays, name) for name in ("mean", "components", "variances"))
    limit, noise = limit_from_json(header["limit"]), entry(header, "noise_variance", int, float)
    return ShapeBasis(mean, components, variances, limit, noise_variance=noise)


def save_asm(asm: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return header and arrays of a fitted model."""
    check_is_fitted(asm)
    header, arrays = save_basis(asm.basis_)
    names = getattr(asm, "feature_names_in_", None)
    header |= {
        "n_samples": asm.n_samples_,
        "parameters": {**asm.get_params(deep=False), "limit": limit_to_json(asm.limit)},
        "total_variance": asm.total_variance_,
        "shrinkage": asm.shrinkage_,
        "n_iter": asm.n_iter_,
        "converged": asm.converged_,
        "feature_names": None if names is None else list(map(str, names)),
        **_provenance(asm),
    }
    header["parameters"] = {k: v.item() if isinstance(v, np.generic) else v for k, v in header["parameters"].items()}
    if asm.covariance_ is not None:
        arrays["covariance"] = asm.covariance_
    tails = Frame.of(asm).tails() if len(asm.event_shape_) == 2 and asm.event_shape_[1] in (2, 3) else None
    if tails is not None:
        header["tails"] = list(tails)
    return header, arrays


def load_asm(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    """Build a model from header and arrays."""
    parameters = dict(header["parameters"])
    asm = ASM(**{**parameters, "limit": limit_from_json(parameters["limit"])})
    basis = load_basis(header, arrays)
    check_settings(asm, entry(header, "n_samples", int), basis.n_features)
    # Six digits are the rounding of float32, in which arrays may have been kept.
    if not entry(header, "total_variance", int, float) >= (1 - 1e-6) * float(basis.variances.sum()) > 0:
        raise ValueError("total_variance: got less than the modes have; expected at least their sum.")
    asm._set_model(
        basis,
        n_samples=entry(header, "n_samples", int),
        total_variance=entry(header, "total_variance", int, float),
        shrinkage=entry(header, "shrinkage", int, float),
        n_iter=entry(header, "n_iter", int),
        converged=entry(header, "converged", bool),
        covariance=_covariance(arrays, basis.n_features) if "covariance" in arrays else None,
        tails=_read_tails(header["tails"]) if header.get("tails") is not None else None,
    )
    if header["feature_names"] is not None:
        names = [str(name) for name in header["feature_names"]]
        if len(names) != asm.n_features_in_:
            raise ValueError(f"got {len(names)} feature names; expected {asm.n_features_in_}.")
        asm.feature_names_in_ = np.array(names, dtype=object)
    asm.landmark_names_, asm.frame_ = _read_provenance(header, asm.event_shape_[0])
    return asm


def _read_tails(numbers: Any) -> Any:
    good = isinstance(numbers, list) and len(numbers) == len(Tails._fields)
    if not good or not all(isinstance(v, int | float) and np.isfinite(v) for v in numbers) or min(numbers[:3]) <= 0:
        raise ValueError(f"tails: got {numbers!r}; expected {len(Tails._fields)} numbers, the first three positive.")
    return Tails(*map(float, numbers))


def _provenance(model: Any) -> dict[str, Any]:
    names = getattr(model, "landmark_names_", None)
    return {
        "landmark_names": None if names is None else list(map(str, names)),
        "landmark_frame": getattr(model, "frame_", None),
    }


def _read_provenance(header: dict[str, Any], n_landmarks: int) -> tuple[tuple[str, ...] | None, str | None]:
    names, frame = header.get("landmark_names"), header.get("landmark_frame")
    if names is not None and len(set(map(str, names))) != n_landmarks:
        raise ValueError(f"landmark_names: got {len(names)} names; expected {n_landmarks} different ones.")
    if frame not in (None, "pixels", "y_up", "physical"):
        raise ValueError(f"landmark_frame: got {frame!r}; expected 'pixels', 'y_up', 'physical' or none.")
    return None if names is None else tuple(map(str, names)), frame


def _covariance(arrays: dict[str, np.ndarray], n_features: int) -> np.ndarray:
    covariance = floats(arrays, "covariance")
    if covariance.shape != (n_features, n_features) or not np.isfinite(covariance).all():
        raise ValueError(f"covariance: got shape {covariance.shape}, or NaN; expected {(n_features, n_features)}.")
    size = float(np.trace(covariance))
    # Products in another order differ in the last digits of float64; nine of them are symmetric.
    if not (size > 0 and np.abs(covariance - covariance.T).max() <= 1e-9 * size):
        raise ValueError("covariance: got a matrix that is not symmetric, or without variance; expected a covariance.")
    return covariance


def save_alignment(alignment: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return header and arrays of a fitted alignment."""
    check_is_fitted(alignment, "mean_shape_")
    parameters = alignment.get_params(deep=False)
    if parameters.get("mirror") is not None:
        mirror = parameters["mirror"]
        parameters["mirror"] = np.asarray(getattr(mirror, "mirror", mirror)).tolist()
    header = {
        "frame": "model",
        "parameters": {k: v.item() if isinstance(v, np.generic) else v for k, v in parameters.items()},
        "inflation": float(alignment.inflation_),
        "disparity": float(alignment.disparity_),
        "n_iter": int(alignment.n_iter_),
        "converged": bool(alignment.converged_),
    }
    return header, {"mean_shape": alignment.mean_shape_, "mirrored": np.asarray(alignment.mirrored_, dtype=np.int64)}


def load_alignment(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    """Build an alignment from header and arrays."""
    parameters = dict(header["parameters"])
    if parameters.get("mirror") is not None:
        parameters["mirror"] = np.asarray(parameters["mirror"], dtype=np.intp)
    alignment = GeneralizedProcrustes(**parameters)
    mean = as_shapes(floats(arrays, "mean_shape"), name="mean_shape", n_dims=(2, 3))
    if mean.ndim != 2:
        raise ValueError(f"mean_shape: got an array of shape {mean.shape}; expected (n_landmarks, n_dims).")
    size = np.linalg.norm(mean)
    # Centred to the rounding of float32; the square of a size from 1e150 on would overflow.
    if not (0 < size < 1e150 and np.linalg.norm(mean.mean(axis=0)) < 1e-6 * size):
        raise ValueError("mean_shape: got a shape of no size or away from the origin; expected a centred one.")
    if alignment.scaling and abs(size - 1) > 1e-6:
        raise ValueError(f"mean_shape: got a centroid size of {size:g}; expected 1.")
    found = Mean(
        mean, entry(header, "inflation", int, float), entry(header, "n_iter", int), entry(header, "converged", bool)
    )
    if not 0 < found.inflation < 1e6:  # one over the mean squared cosine of shapes and mean
        raise ValueError(f"inflation: got {found.inflation:g}; expected a positive factor near 1.")
    alignment._keep(found, entry(header, "disparity", int, float), arrays["mirrored"].astype(np.intp))
    return alignment


def save_aligned(model: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return header and arrays of a fitted model with its alignment."""
    check_is_fitted(model)
    if type(model.asm_) is not ASM or type(model.alignment_) is not GeneralizedProcrustes:
        raise ValueError(
            f"got an AlignedASM of {type(model.asm_).__name__} and {type(model.alignment_).__name__}; expected ASM and "
            "GeneralizedProcrustes, the only ones a file can hold."
        )
    scheme = model.scheme_ if model.scheme is None else model.scheme
    header: dict[str, Any] = {"frame": "image", "scheme": scheme_to_json(scheme), **_provenance(model)}
    parameters = model.get_params(deep=False)
    for name in ("asm", "alignment"):
        parameters[name] = parameters[name] is not None
    del parameters["scheme"]
    header["parameters"] = parameters
    header["limit"] = limit_to_json(model.asm_.basis_.limit)
    header["n_samples"] = model.asm_.n_samples_
    Frame.of(model).tails()  # learned for this alignment, if they are not yet
    arrays: dict[str, np.ndarray] = {}
    for name, (part, some) in {"asm": save_asm(model.asm_), "alignment": save_alignment(model.alignment_)}.items():
        header[name] = part
        arrays |= {f"{name}.{key}": array for key, array in some.items()}
    return header, arrays


def load_aligned(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    """Build a model with its alignment from header and arrays."""
    expect(header, "frame", "image")
    parts = {}
    for name, load in (("asm", load_asm), ("alignment", load_alignment)):
        some = {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}
        parts[name] = load(header[name], some)
    parameters = dict(header["parameters"])
    for name in ("asm", "alignment"):
        parameters[name] = clone(parts[name]) if parameters[name] else None
    model = AlignedASM(**parameters, scheme=scheme_from_json(header["scheme"]))
    if parts["asm"].event_shape_ != parts["alignment"].mean_shape_.shape:
        raise ValueError(
            f"got an alignment for {parts['alignment'].mean_shape_.shape} and modes for {parts['asm'].event_shape_}."
        )
    return model._assemble(parts["alignment"], parts["asm"], *_read_provenance(header, parts["asm"].event_shape_[0]))


def limit_to_json(limit: Any) -> Any:
    """Return what JSON holds of a limit."""
    if limit is None or (isinstance(limit, int | float | np.number) and math.isfinite(limit)):
        return limit if limit is None else float(limit)
    if isinstance(limit, int | float | np.number):
        return {"type": "number", "value": repr(float(limit))}
    if type(limit) not in (Box, Ellipsoid, SoftBox):
        raise ValueError(f"limit: got a {type(limit).__name__}; expected a limit of this library, which a file holds.")
    return {"type": type(limit).__name__, "value": repr(limit.value)}


def limit_from_json(value: Any) -> Any:
    """Build a limit from what JSON held."""
    if value is None or type(value) in (int, float):
        return value
    kinds: dict[str, Callable[[float], Any]] = {"Box": Box, "Ellipsoid": Ellipsoid, "SoftBox": SoftBox, "number": float}
    return kinds[value["type"]](float(value["value"]))


def scheme_to_json(scheme: Any) -> Any:
    """Return what JSON holds of a scheme: its name where that says all."""
    if scheme is None:
        return None
    if isinstance(scheme, str):
        return scheme
    try:
        if get_scheme(scheme.name) == scheme:
            return {"name": scheme.name}
    except ValueError:
        pass
    return {
        "name": scheme.name,
        "n_landmarks": scheme.n_landmarks,
        "names": list(scheme.names),
        "groups": {key: value.tolist() for key, value in scheme.groups.items()},
        "edges": scheme.edges.tolist(),
        "mirror": None if scheme.mirror is None else scheme.mirror.tolist(),
        "anchors": {key: [right.tolist(), left.tolist()] for key, (right, left) in scheme.anchors.items()},
        "curves": [asdict(curve) for curve in scheme.curves],
    }


def scheme_from_json(value: Any) -> Any:
    """Build a scheme from what JSON held."""
    if value is None or isinstance(value, str):
        return value
    if len(value) == 1:
        return get_scheme(value["name"])
    curves = [Curve(**curve) for curve in value.get("curves", ())]
    rest = {k: value[k] for k in value if k not in _NAMED}
    return LandmarkScheme(value["name"], value["n_landmarks"], **rest, curves=curves)


_NAMED = ("name", "n_landmarks", "curves")


KINDS = {
    ShapeBasis: (save_basis, load_basis),
    ASM: (save_asm, load_asm),
    GeneralizedProcrustes: (save_alignment, load_alignment),
    AlignedASM: (save_aligned, load_aligned),
}
