"""Models as files: one ``.npz`` of plain numbers and a JSON header, never a pickle.

A file holds the array ``header`` (UTF-8 JSON as bytes) and the arrays of the model, so ``numpy.load(path)`` reads it
without this library. The header always names ``format``, ``format_version``, ``kind`` and ``library_version``; models
add the frame of their numbers, the divisor of their variances, the limit, the landmark scheme and n_samples.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np

from ._archive import FORMAT, ModelFileError, read_archive, write_archive
from ._model_files import KINDS
from ._typing import PathLike

__all__ = ["ModelFileError", "load_model", "read_archive", "register", "save_model", "write_archive"]


ENTRY_POINTS = "shape_models.models"  # the group in which other packages announce their kinds

Loader = Callable[[dict[str, Any], dict[str, np.ndarray]], Any]
_LOADERS: dict[str, Loader] = {kind.__name__: load for kind, (_, load) in KINDS.items()}
_BUNDLED = Path(__file__).parent / "models"


def save_model(model: object, path: PathLike, *, metadata: Mapping[str, Any] | None = None) -> Path:
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


def load_model(name_or_path: PathLike) -> Any:
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
    load = _loader(path, kind, header)
    try:
        with np.errstate(all="ignore"):  # hostile numbers overflow on their way to being refused
            return load(header, arrays)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        what = f"no entry {error}" if isinstance(error, KeyError) else str(error)
        raise ModelFileError(f"{path}: the parts of this {kind} do not fit together: {what}") from error


def _find(name_or_path: PathLike) -> Path:
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


# --- The models of this package --------------------------------------------------------------------------
def register(kind: str, loader: Loader) -> None:
    """Let `load_model` read another kind of model.

    A package that is installed need not be imported first when it announces its loader as an entry point of the group
    ``shape_models.models``, named after the kind.

    Parameters
    ----------
    kind : str
        The name of the kind, which the models' ``to_archive()`` gives first.
    loader : callable
        Takes the header and the arrays that ``to_archive()`` returned, and returns the model. ValueError, TypeError
        and KeyError in it say that the file is damaged.

    Raises
    ------
    ValueError
        When the kind has another loader.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from pathlib import Path
    >>> from shape_models.io import load_model, register, save_model
    >>> class Pixels:
    ...     def __init__(self, size):
    ...         self.size = size
    ...     def to_archive(self):
    ...         return "Pixels", {}, {"size": np.array([self.size])}
    >>> register("Pixels", lambda header, arrays: Pixels(float(arrays["size"][0])))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     load_model(save_model(Pixels(0.5), Path(folder) / "pixels.npz")).size
    0.5
    """
    known = _LOADERS.get(kind)
    if known is not None and (known.__module__, known.__qualname__) != (loader.__module__, loader.__qualname__):
        raise ValueError(f"kind: got {kind!r}, which {known.__module__} reads; expected a name that is not taken.")
    _LOADERS[kind] = loader


def _loader(path: Path, kind: str, header: Mapping[str, Any]) -> Loader:
    """Return the loader of a kind, registered or announced by an installed package."""
    if kind not in _LOADERS:
        for point in entry_points(group=ENTRY_POINTS, name=kind):
            announced: Loader = point.load()
            return announced
        package = header.get("package")
        hint = f" Try installing the package {package!r} and importing it." if isinstance(package, str) else ""
        raise ModelFileError(
            f"{path}: got a model of kind {kind!r}; expected one of {', '.join(sorted(_LOADERS))}, or one that an "
            f"installed package reads.{hint or ' Try importing the package that wrote it.'}"
        )
    return _LOADERS[kind]


def _to_parts(model: Any) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
    if type(model) in KINDS:
        return (type(model).__name__, *KINDS[type(model)][0](model))
    if hasattr(model, "to_archive"):
        kind, header, arrays = model.to_archive()
        package = type(model).__module__.partition(".")[0]
        return kind, header if package == FORMAT else {"package": package, **header}, arrays
    raise ValueError(
        f"got a {type(model).__name__}; expected a ShapeBasis, ASM, AlignedASM, GeneralizedProcrustes, or an object "
        "with to_archive()."
    )
