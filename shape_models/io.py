"""Models as files: one ``.npz`` of plain numbers and a JSON header, never a pickle.

A file holds the array ``header`` (UTF-8 JSON as bytes) and the arrays of the model, so ``numpy.load(path)`` reads it
without this library. The header always names ``format``, ``format_version``, ``kind`` and ``library_version``; models
add the frame of their numbers, the divisor of their variances, the limit, the landmark scheme and n_samples.
"""

from __future__ import annotations

import json
import math
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ._array import refuse_masked
from ._files import atomic, regular

__all__ = ["ModelFileError", "load_model", "read_archive", "save_model", "write_archive"]

FORMAT = "shape_models"
FORMAT_VERSION = 1

# kind -> "module:function"; the function takes (header, arrays) and returns the model. Imported when met.
LOADERS = {
    "ShapeBasis": "shape_models.io:_load_basis",
    "ASM": "shape_models.io:_load_asm",
    "GeneralizedProcrustes": "shape_models.io:_load_alignment",
    "AlignedASM": "shape_models.io:_load_aligned",
    "AppearanceModel": "shape_models.search:load_appearance",
    "ASMFitter": "shape_models.search:load_fitter",
    "PartsFitter": "shape_models.search:load_parts",
    "FaceModel3D": "pose:load_face_model",
}

_BUNDLED = Path(__file__).parent / "models"
_MAX_BYTES = 1 << 30
_MAX_HEADER = 1 << 20
_MAX_ENTRIES = 4096
_ENTRY = re.compile(r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+){0,8}")
_NPY_HEADER = re.compile(
    rb"\{'descr': '([<>|])([fiub])([1248])', 'fortran_order': (True|False), "
    rb"'shape': \((|\d{1,15},|\d{1,15}(?:, ?\d{1,15}){1,7})\), ?\} *\n"
)


class ModelFileError(ValueError):
    """A file that is no model: truncated, foreign, damaged, or written by a newer version.

    Examples
    --------
    >>> from shape_models.io import ModelFileError
    >>> issubclass(ModelFileError, ValueError)
    True
    """


def save_model(model: object, path: str | os.PathLike[str], *, metadata: Mapping[str, Any] | None = None) -> Path:
    """Write a model to one ``.npz`` file, from which `load_model` returns it bit by bit.

    The file appears at once, complete, or not at all.

    Parameters
    ----------
    model : ShapeBasis, ASM, AlignedASM, GeneralizedProcrustes, or any object with ``to_archive()``
        Estimators must be fitted. ``to_archive()`` returns (kind, header, arrays), as `write_archive` takes them.
    path : path
        Where to; an existing file is replaced.
    metadata : mapping of str, optional
        What JSON can hold about where the model comes from (source, licence, command); kept in the header.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        For an object that has no place in a file: another type, a limit or an alignment of your own class.
    sklearn.exceptions.NotFittedError
        For an estimator that has not been fitted.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from pathlib import Path
    >>> from shape_models import ASM, load_model, save_model
    >>> asm = ASM(2).fit(np.random.default_rng(0).normal(size=(20, 5, 2)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     again = load_model(save_model(asm, Path(folder) / "model.npz"))
    >>> np.array_equal(again.components_, asm.components_)
    True
    """
    kind, header, arrays = _to_parts(model)
    if metadata:
        header = {**header, "metadata": dict(metadata)}
    return write_archive(path, kind, header, arrays)


def load_model(name_or_path: str | os.PathLike[str]) -> Any:
    """Read a model that ships with the library, or one that `save_model` wrote.

    Nothing in a file is ever executed, and its size is checked before memory is taken.

    Parameters
    ----------
    name_or_path : str or path
        The name of a bundled model ("face68"), or a file.

    Returns
    -------
    ShapeBasis, ASM, AlignedASM, GeneralizedProcrustes, ...
        What was saved.

    Raises
    ------
    FileNotFoundError
        When there is neither such a model nor such a file.
    ModelFileError
        When the file is no model, is damaged, or comes from a newer version.

    Examples
    --------
    >>> from shape_models import load_model
    >>> load_model("face68").asm_.event_shape_
    (68, 2)
    """
    path = _find(name_or_path)
    kind, header, arrays = read_archive(path)
    if kind not in LOADERS:
        raise ModelFileError(f"{path}: got a model of kind {kind!r}; expected one of {', '.join(sorted(LOADERS))}.")
    module, _, function = LOADERS[kind].partition(":")
    load: Callable[[dict[str, Any], dict[str, np.ndarray]], Any] = getattr(import_module(module), function)
    try:
        with np.errstate(all="ignore"):  # hostile numbers overflow on their way to being refused
            return load(header, arrays)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        what = f"no entry {error}" if isinstance(error, KeyError) else str(error)
        raise ModelFileError(f"{path}: the parts of this {kind} do not fit together: {what}") from error


def write_archive(
    path: str | os.PathLike[str], kind: str, header: Mapping[str, Any], arrays: Mapping[str, Any]
) -> Path:
    """Write a JSON header and named arrays to one ``.npz`` file, atomically.

    Parameters
    ----------
    path : path
        Where to; an existing file is replaced.
    kind : str
        What the file is; `load_model` finds the loader by it.
    header : mapping of str
        What JSON can hold; finite numbers only.
    arrays : mapping of str to array
        Numbers or booleans of at most 8 bytes; names of letters, digits, ``_``, and dots between them.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        For a header JSON cannot hold, or arrays of objects or text.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from pathlib import Path
    >>> from shape_models.io import read_archive, write_archive
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = write_archive(Path(folder) / "a.npz", "Example", {"unit": "mm"}, {"points": np.zeros((2, 3))})
    ...     kind, header, arrays = read_archive(path)
    >>> kind, header["unit"], arrays["points"].shape
    ('Example', 'mm', (2, 3))
    """
    from . import __version__

    path = Path(path)
    whole = {"format": FORMAT, "format_version": FORMAT_VERSION, "kind": kind, "library_version": __version__}
    clash = whole.keys() & header.keys()
    if clash:
        raise ValueError(f"header: got {sorted(clash)}, which the file sets itself; expected other names.")
    try:
        text = json.dumps({**whole, **header}, allow_nan=False, ensure_ascii=True, indent=1)
    except (TypeError, ValueError) as error:
        raise ValueError(f"header: got something JSON cannot hold: {error}") from None
    if len(text) > _MAX_HEADER:
        raise ValueError(f"header: got {len(text)} bytes of JSON; expected at most {_MAX_HEADER}.")
    entries = {"header": np.frombuffer(text.encode(), dtype=np.uint8)}
    for name, value in arrays.items():
        refuse_masked(value, f"arrays[{name!r}]")
        array = np.asarray(value)
        if not _ENTRY.fullmatch(name) or name == "header":
            raise ValueError(f"arrays: got the name {name!r}; expected letters, digits, _ and dots between them.")
        if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
            raise ValueError(f"arrays[{name!r}]: got {array.dtype}; expected numbers or booleans of at most 8 bytes.")
        entries[name] = array.astype(array.dtype.newbyteorder("<"), copy=False)
    if len(entries) > _MAX_ENTRIES:
        raise ValueError(f"arrays: got {len(arrays)}; expected fewer than {_MAX_ENTRIES}.")
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **entries)
    return path


def read_archive(
    path: str | os.PathLike[str], *, max_bytes: int = _MAX_BYTES
) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
    """Read what `write_archive` wrote.

    Parameters
    ----------
    path : path
        The file.
    max_bytes : int
        Most that its arrays may take in memory together; declared sizes are checked first.

    Returns
    -------
    kind : str
    header : dict
    arrays : dict of str to ndarray

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ModelFileError
        For anything but a complete file of this format; pickled objects are never read.

    Examples
    --------
    >>> from shape_models.io import ModelFileError, read_archive
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".npz") as file:
    ...     try:
    ...         read_archive(file.name)
    ...     except ModelFileError as error:
    ...         print("refused")
    refused
    """
    path = Path(path)
    try:
        size = regular(path).stat().st_size
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path}: no model file: {error}") from None
    if size > max_bytes:
        raise ModelFileError(f"{path}: got a file of {size} bytes; expected at most {max_bytes}.")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _directory(archive, max_bytes)
            header = _header(_entry(archive, entries.pop("header")))
            version = header["format_version"]
            arrays = _READERS[version](archive, entries)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error.__cause__
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, OSError) as error:
        raise ModelFileError(f"{path}: no model file, or a damaged one: {error}") from error
    except (ValueError, RuntimeError, NotImplementedError, OverflowError, UnicodeError, MemoryError) as error:
        raise ModelFileError(f"{path}: no model file, or a damaged one: {error}") from error
    except Exception as error:  # the zip directory is hostile input, and zipfile promises no list of errors
        raise ModelFileError(f"{path}: no model file: {type(error).__name__}: {error}") from error
    return header["kind"], header, arrays


def _find(name_or_path: str | os.PathLike[str]) -> Path:
    name = os.fspath(name_or_path)
    bundled = sorted(file.stem for file in _BUNDLED.glob("*.npz"))
    if name in bundled:
        return _BUNDLED / f"{name}.npz"
    path = Path(name)
    if not path.exists():
        raise FileNotFoundError(
            f"got {name!r}; expected a model file, or the name of a bundled model: {', '.join(bundled) or 'none'}."
        )
    return path


def _directory(archive: zipfile.ZipFile, max_bytes: int) -> dict[str, zipfile.ZipInfo]:
    """Check all that the zip directory declares before anything is read."""
    infos = archive.infolist()
    if len(infos) > _MAX_ENTRIES:
        raise ModelFileError(f"got {len(infos)} entries; expected at most {_MAX_ENTRIES}.")
    total = sum(info.file_size for info in infos)
    if total > max_bytes:
        raise ModelFileError(f"got {total} bytes declared; expected at most {max_bytes}.")
    entries = {}
    for info in infos:
        name = info.filename.removesuffix(".npy")
        if name == info.filename or not _ENTRY.fullmatch(name) or name in entries:
            raise ModelFileError(f"got an entry {info.filename[:80]!r}; expected distinct plain names ending in .npy.")
        if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ModelFileError(f"got an entry {name!r} that is encrypted or packed in an unusual way.")
        entries[name] = info
    if "header" not in entries:
        raise ModelFileError("got an .npz file without header; expected one written by save_model.")
    if entries["header"].file_size > _MAX_HEADER + 1024:
        raise ModelFileError(f"got a header of {entries['header'].file_size} bytes; expected at most {_MAX_HEADER}.")
    return entries


def _entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    name = info.filename.removesuffix(".npy")
    with archive.open(info) as file:
        start = file.read(10)
        if len(start) < 10 or start[:8] != b"\x93NUMPY\x01\x00":
            raise ModelFileError(f"the entry {name!r} is no array.")
        length = int.from_bytes(start[8:10], "little")
        match = _NPY_HEADER.fullmatch(file.read(length))
        if match is None:
            raise ModelFileError(f"the entry {name!r} is no plain array of numbers (objects are never read).")
        order, kind, width, fortran, dims = match.groups()
        shape = tuple(int(d) for d in dims.split(b",") if d.strip())
        if (kind == b"f" and width == b"1") or (kind == b"b" and width != b"1"):
            raise ModelFileError(f"the entry {name!r} has an unknown type.")
        dtype = np.dtype((order + kind + width).decode())
        n_bytes = math.prod(shape) * dtype.itemsize
        if n_bytes != info.file_size - 10 - length:
            raise ModelFileError(
                f"the entry {name!r} declares an array of shape {shape} with {n_bytes} bytes; "
                f"got {info.file_size - 10 - length}."
            )
        data = file.read(n_bytes)
        if len(data) != n_bytes or file.read(1):
            raise ModelFileError(f"the entry {name!r} is truncated.")
    if kind == b"b" and max(data, default=0) > 1:
        raise ModelFileError(f"the entry {name!r} has booleans other than 0 and 1.")
    array = np.frombuffer(data, dtype=dtype).reshape(shape, order="F" if fortran == b"True" else "C")
    return array.astype(dtype.newbyteorder("="), order="C")


def _header(array: np.ndarray) -> dict[str, Any]:
    if array.dtype != np.uint8 or array.ndim != 1:
        raise ModelFileError("the header is no text.")

    def refuse(constant: str) -> None:
        raise ModelFileError(f"the header has the number {constant}; expected finite ones.")

    try:
        header = json.loads(array.tobytes().decode(), parse_constant=refuse)
    except RecursionError:
        raise ModelFileError("the header is nested too deeply.") from None
    except ModelFileError:
        raise
    except ValueError as error:
        raise ModelFileError(f"the header is no JSON: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ModelFileError(f"the header does not name the format {FORMAT!r}: a foreign file.")
    version, kind = header.get("format_version"), header.get("kind")
    if type(version) is not int or version not in _READERS:
        raise ModelFileError(
            f"got format version {version!r}; expected one of {sorted(_READERS)}. Try a newer version of the library."
        )
    if not isinstance(kind, str):
        raise ModelFileError(f"got kind {kind!r}; expected a name.")
    return header


def _read_version_1(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo]) -> dict[str, np.ndarray]:
    return {name: _entry(archive, info) for name, info in entries.items()}


# One reader for each version ever written; none is removed.
_READERS: dict[int, Callable[[zipfile.ZipFile, dict[str, zipfile.ZipInfo]], dict[str, np.ndarray]]] = {
    1: _read_version_1
}


# --- The models of this package --------------------------------------------------------------------------


def _to_parts(model: Any) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
    from ._aligned import AlignedASM
    from ._alignment import GeneralizedProcrustes
    from ._asm import ASM
    from ._basis import ShapeBasis

    for kind, save in ((ShapeBasis, _save_basis), (ASM, _save_asm), (AlignedASM, _save_aligned)):
        if type(model) is kind:
            return (kind.__name__, *save(model))
    if type(model) is GeneralizedProcrustes:
        return ("GeneralizedProcrustes", *_save_alignment(model))
    if hasattr(model, "to_archive"):
        return model.to_archive()
    raise ValueError(
        f"got a {type(model).__name__}; expected a ShapeBasis, ASM, AlignedASM, GeneralizedProcrustes, or an object "
        "with to_archive()."
    )


def _save_basis(basis: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    from ._array import to_numpy

    arrays = {name: to_numpy(getattr(basis, name)) for name in ("mean", "components", "variances")}
    header = {
        "frame": "model",
        "divisor": "n - 1",
        "limit": _limit_to_json(basis.limit),
        "noise_variance": basis.noise_variance,
    }
    return header, arrays


def _load_basis(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    from ._basis import ShapeBasis

    _expect(header, "divisor", "n - 1")
    _expect(header, "frame", "model")
    mean, components, variances = (_floats(arrays, name) for name in ("mean", "components", "variances"))
    return ShapeBasis(
        mean,
        components,
        variances,
        _limit_from_json(header["limit"]),
        noise_variance=_number(header, "noise_variance"),
    )


def _save_asm(asm: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    from sklearn.utils.validation import check_is_fitted

    check_is_fitted(asm)
    header, arrays = _save_basis(asm.basis_)
    names = getattr(asm, "feature_names_in_", None)
    header |= {
        "n_samples": asm.n_samples_,
        "parameters": {**asm.get_params(deep=False), "limit": _limit_to_json(asm.limit)},
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
    from ._problem import Frame

    tails = Frame.of(asm).tails() if len(asm.event_shape_) == 2 and asm.event_shape_[1] in (2, 3) else None
    if tails is not None:
        header["tails"] = list(tails)
    return header, arrays


def _load_asm(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    from ._asm import ASM

    parameters = dict(header["parameters"])
    asm = ASM(**{**parameters, "limit": _limit_from_json(parameters["limit"])})
    basis = _load_basis(header, arrays)
    asm._check_parameters(_integer(header, "n_samples"), basis.n_features)
    if not _number(header, "total_variance") >= (1 - 1e-6) * float(basis.variances.sum()) > 0:
        raise ValueError("total_variance: got less than the modes have; expected at least their sum.")
    asm._set_model(
        basis,
        n_samples=_integer(header, "n_samples"),
        total_variance=_number(header, "total_variance"),
        shrinkage=_number(header, "shrinkage"),
        n_iter=_integer(header, "n_iter"),
        converged=_flag(header, "converged"),
        covariance=_covariance(arrays, basis.n_features) if "covariance" in arrays else None,
        tails=_read_tails(header["tails"]) if header.get("tails") is not None else None,
    )
    if header["feature_names"] is not None:
        names = [str(name) for name in header["feature_names"]]
        if len(names) != asm.n_features_in_:
            raise ValueError(f"got {len(names)} feature names; expected {asm.n_features_in_}.")
        asm.feature_names_in_ = np.array(names, dtype=object)
    _read_provenance(asm, header, asm.event_shape_[0])
    return asm


def _read_tails(numbers: Any) -> Any:
    from ._tails import Tails

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


def _read_provenance(model: Any, header: dict[str, Any], n_landmarks: int) -> None:
    names, frame = header.get("landmark_names"), header.get("landmark_frame")
    if names is not None and len(set(map(str, names))) != n_landmarks:
        raise ValueError(f"landmark_names: got {len(names)} names; expected {n_landmarks} different ones.")
    if frame not in (None, "pixels", "y_up", "physical"):
        raise ValueError(f"landmark_frame: got {frame!r}; expected 'pixels', 'y_up', 'physical' or none.")
    model.landmark_names_ = None if names is None else tuple(map(str, names))
    model.frame_ = frame


def _covariance(arrays: dict[str, np.ndarray], n_features: int) -> np.ndarray:
    covariance = _floats(arrays, "covariance")
    if covariance.shape != (n_features, n_features) or not np.isfinite(covariance).all():
        raise ValueError(f"covariance: got shape {covariance.shape}, or NaN; expected {(n_features, n_features)}.")
    size = float(np.trace(covariance))
    if not (size > 0 and np.abs(covariance - covariance.T).max() <= 1e-9 * size):
        raise ValueError("covariance: got a matrix that is not symmetric, or without variance; expected a covariance.")
    return covariance


def _save_alignment(alignment: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    from sklearn.utils.validation import check_is_fitted

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


def _load_alignment(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    from ._alignment import GeneralizedProcrustes
    from ._array import as_shapes

    parameters = dict(header["parameters"])
    if parameters.get("mirror") is not None:
        parameters["mirror"] = np.asarray(parameters["mirror"], dtype=np.intp)
    alignment = GeneralizedProcrustes(**parameters)
    mean = as_shapes(_floats(arrays, "mean_shape"), name="mean_shape", n_dims=(2, 3))
    if mean.ndim != 2:
        raise ValueError(f"mean_shape: got an array of shape {mean.shape}; expected (n_landmarks, n_dims).")
    size = np.linalg.norm(mean)
    if not (0 < size < 1e150 and np.linalg.norm(mean.mean(axis=0)) < 1e-6 * size):
        raise ValueError("mean_shape: got a shape of no size or away from the origin; expected a centred one.")
    if alignment.scaling and abs(size - 1) > 1e-6:
        raise ValueError(f"mean_shape: got a centroid size of {size:g}; expected 1.")
    alignment.mean_shape_ = mean
    alignment.mirrored_ = arrays["mirrored"].astype(np.intp)
    alignment.inflation_ = _number(header, "inflation")
    if not 0 < alignment.inflation_ < 1e6:
        raise ValueError(f"inflation: got {alignment.inflation_:g}; expected a positive factor near 1.")
    alignment.disparity_ = _number(header, "disparity")
    alignment.n_iter_ = _integer(header, "n_iter")
    alignment.converged_ = _flag(header, "converged")
    return alignment


def _save_aligned(model: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    from sklearn.utils.validation import check_is_fitted

    from ._alignment import GeneralizedProcrustes
    from ._asm import ASM
    from ._problem import Frame

    check_is_fitted(model)
    if type(model.asm_) is not ASM or type(model.alignment_) is not GeneralizedProcrustes:
        raise ValueError(
            f"got an AlignedASM of {type(model.asm_).__name__} and {type(model.alignment_).__name__}; expected ASM and "
            "GeneralizedProcrustes, the only ones a file can hold."
        )
    scheme = model.scheme_ if model.scheme is None else model.scheme
    header: dict[str, Any] = {"frame": "image", "scheme": _scheme_to_json(scheme), **_provenance(model)}
    parameters = model.get_params(deep=False)
    for name in ("asm", "alignment"):
        parameters[name] = parameters[name] is not None
    del parameters["scheme"]
    header["parameters"] = parameters
    header["limit"] = _limit_to_json(model.asm_.basis_.limit)
    header["n_samples"] = model.asm_.n_samples_
    Frame.of(model).tails()  # learned for this alignment, if they are not yet
    arrays: dict[str, np.ndarray] = {}
    for name, (part, some) in {
        "asm": _save_asm(model.asm_), "alignment": _save_alignment(model.alignment_),
    }.items():  # fmt: skip
        header[name] = part
        arrays |= {f"{name}.{key}": array for key, array in some.items()}
    return header, arrays


def _load_aligned(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    from sklearn.base import clone

    from ._aligned import AlignedASM

    _expect(header, "frame", "image")
    parts = {}
    for name, load in (("asm", _load_asm), ("alignment", _load_alignment)):
        some = {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}
        parts[name] = load(header[name], some)
    parameters = dict(header["parameters"])
    for name in ("asm", "alignment"):
        parameters[name] = clone(parts[name]) if parameters[name] else None
    model = AlignedASM(**parameters, scheme=_scheme_from_json(header["scheme"]))
    if parts["asm"].event_shape_ != parts["alignment"].mean_shape_.shape:
        raise ValueError(
            f"got an alignment for {parts['alignment'].mean_shape_.shape} and modes for {parts['asm'].event_shape_}."
        )
    model.asm_, model.alignment_ = parts["asm"], parts["alignment"]
    model._check_parameters(len(parts["alignment"].mean_shape_))
    _read_provenance(model, header, len(parts["alignment"].mean_shape_))
    model.n_features_in_ = model.asm_.n_features_in_
    return model


def _limit_to_json(limit: Any) -> Any:
    from ._limits import Box, Ellipsoid, SoftBox

    if limit is None or (isinstance(limit, int | float | np.number) and math.isfinite(limit)):
        return limit if limit is None else float(limit)
    if isinstance(limit, int | float | np.number):
        return {"type": "number", "value": repr(float(limit))}
    if type(limit) not in (Box, Ellipsoid, SoftBox):
        raise ValueError(f"limit: got a {type(limit).__name__}; expected a limit of this library, which a file holds.")
    return {"type": type(limit).__name__, "value": repr(limit.value)}


def _limit_from_json(value: Any) -> Any:
    from ._limits import Box, Ellipsoid, SoftBox

    if value is None or type(value) in (int, float):
        return value
    kinds: dict[str, Callable[[float], Any]] = {"Box": Box, "Ellipsoid": Ellipsoid, "SoftBox": SoftBox, "number": float}
    return kinds[value["type"]](float(value["value"]))


def _scheme_to_json(scheme: Any) -> Any:
    from .landmarks import get_scheme

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


def _scheme_from_json(value: Any) -> Any:
    from .curves import Curve
    from .landmarks import LandmarkScheme, get_scheme

    if value is None or isinstance(value, str):
        return value
    if len(value) == 1:
        return get_scheme(value["name"])
    curves = [Curve(**curve) for curve in value.get("curves", ())]
    rest = {k: value[k] for k in value if k not in _NAMED}
    return LandmarkScheme(value["name"], value["n_landmarks"], **rest, curves=curves)


_NAMED = ("name", "n_landmarks", "curves")


def _floats(arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    if arrays[name].dtype.kind != "f":
        raise ValueError(f"{name}: got {arrays[name].dtype}; expected floats.")
    return arrays[name]


def _expect(header: dict[str, Any], name: str, value: Any) -> None:
    if header[name] != value:
        raise ValueError(f"{name}: got {header[name]!r}; expected {value!r}.")


def _number(header: dict[str, Any], name: str) -> float:
    value = header[name]
    if type(value) not in (int, float):
        raise ValueError(f"{name}: got {value!r}; expected a number.")
    return float(value)


def _integer(header: dict[str, Any], name: str) -> int:
    if type(header[name]) is not int:
        raise ValueError(f"{name}: got {header[name]!r}; expected an integer.")
    return header[name]


def _flag(header: dict[str, Any], name: str) -> bool:
    if type(header[name]) is not bool:
        raise ValueError(f"{name}: got {header[name]!r}; expected true or false.")
    return header[name]
