"""The command ``shape-models doctor``: what a bug report has to say of an installation."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import numpy as np

from . import __version__
from ._commands import DataError, json_option, say
from ._options import usable_processors

_DISTRIBUTION = "shape-models"
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_FOLDERS = ("SHAPE_MODELS_DATA", "ASMNET_CACHE", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME")
_REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[^\]]*\])?([^;]*)(?:;.*extra\s*==\s*['\"](\w+)['\"])?")
# Imported in a process of their own: a library that crashes on import is a finding, and not the end of the command.
_PROBE = """
import importlib, json, sys
name = sys.argv[1]
module = importlib.import_module(name)
found = {"version": str(getattr(module, "__version__", ""))}
if name == "torch":
    found["threads"] = module.get_num_threads()
    found["cuda"] = module.cuda.get_device_name() if module.cuda.is_available() else None
    found["mps"] = bool(getattr(module.backends, "mps", None) and module.backends.mps.is_available())
print(json.dumps(found))
"""


def examine() -> dict[str, Any]:
    """Return what is known of the installation: values that JSON can hold, and a list of problems."""
    problems: list[str] = []
    needed, extras = _requirements(problems)
    parts = {name: _probe(name, problems) for name in sorted(set().union(*extras.values()))}
    return {
        "shape_models": __version__,
        "folder": str(Path(__file__).parent),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processors": {"present": os.cpu_count(), "usable": usable_processors()},
        "threads": {name: os.environ.get(name) for name in _THREADS} | {"numba": _numba_threads(problems)},
        "blas": _blas(),
        "needed": {name: _version(name, problems) for name in needed},
        "optional": {extra: {name: parts[name] for name in names} for extra, names in extras.items()},
        "caches": _caches(problems),
        "models": _models(problems),
        "data": _data(problems),
        "problems": problems,
    }


def _requirements(problems: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the distributions that are needed, and those of each extra that users install."""
    try:
        listed = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        problems.append("shape-models is not installed, only found on the path. Try pip install . in its folder.")
        return ["numpy", "scipy", "scikit-learn", "scikit-image", "numba", "array-api-compat", "click"], {}
    needed: list[str] = []
    extras: dict[str, list[str]] = {}
    for line in listed:
        match = _REQUIREMENT.match(line)
        if match is None or match[1] == _DISTRIBUTION:
            continue
        if match[3] is None:
            needed.append(match[1])
        elif match[3] not in ("dev", "docs", "all"):
            extras.setdefault(match[3], []).append(match[1])
    return needed, extras


def _version(name: str, problems: list[str]) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        problems.append(f"{name} is needed and not installed. Try pip install {name}.")
        return None


def _probe(name: str, problems: list[str]) -> dict[str, Any] | None:
    """Return the version of an optional distribution and whether it can be imported, None where it is absent."""
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    module = next((m for m, owners in _owners().items() if distribution.name in owners), name.replace("-", "_"))
    run = subprocess.run([sys.executable, "-c", _PROBE, module], capture_output=True, text=True, check=False)
    if run.returncode:
        last = (run.stderr.strip().splitlines() or [f"it ended with code {run.returncode}"])[-1]
        problems.append(f"{name} {distribution.version} is installed and cannot be imported: {last}")
        return {"version": distribution.version, "imports": False}
    found = json.loads(run.stdout.splitlines()[-1])
    return {**found, "version": distribution.version, "imports": True}


def _owners() -> dict[str, list[str]]:
    """Return the distributions that each module comes from; modules of public names first."""
    owners = metadata.packages_distributions()
    return {name: list(owners[name]) for name in sorted(owners, key=lambda name: (name.startswith("_"), name))}


def _numba_threads(problems: list[str]) -> int | None:
    try:
        import numba

        return int(numba.get_num_threads())
    except ImportError as error:
        problems.append(f"numba cannot be imported: {error}")
        return None


def _blas() -> list[dict[str, Any]]:
    from threadpoolctl import threadpool_info  # comes with scikit-learn

    np.linalg.svd(np.eye(2))  # loads the library, where that waits for the first call
    keys = ("user_api", "internal_api", "version", "num_threads")
    return [{key: found.get(key) for key in keys} for found in threadpool_info()]


def _caches(problems: list[str]) -> dict[str, Any]:
    """Return the folders that are written to, and whether they can be."""
    import numba

    settings: Any = numba.config
    kept = settings.CACHE_DIR or str(Path(__file__).parent / "__pycache__")  # as numba decides it
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folders = {"compiled": Path(kept), "faces": Path(os.environ.get("ASMNET_CACHE") or base / "asmnet")}
    found: dict[str, Any] = {name: os.environ.get(name) for name in _FOLDERS[1:]}
    for name, folder in folders.items():
        found[name] = {"folder": str(folder), "exists": folder.is_dir(), "writable": _writable(folder)}
        if folder.is_dir() and not found[name]["writable"]:
            problems.append(f"{folder} cannot be written: what is kept there is made anew in every process.")
    return found


def _writable(folder: Path) -> bool:
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _models(problems: list[str]) -> dict[str, int]:
    """Return the bundled models with the size of their files in bytes."""
    own = Path(__file__).parent / "models"
    found = {file.stem: file.stat().st_size for file in sorted(own.glob("*.npz"))}
    for name in ("face68", "search68"):
        if name not in found:
            problems.append(f"the model {name} is missing in {own}. Try installing shape-models again.")
    networks = find_spec("asmnet")
    if networks is not None and networks.origin is not None:
        weights = Path(networks.origin).parent / "weights"
        found |= {file.stem: file.stat().st_size for file in sorted(weights.glob("*.safetensors"))}
    return found


def _data(problems: list[str]) -> dict[str, Any]:
    """Return the folder of real data and what lies in it."""
    name = os.environ.get(_FOLDERS[0])
    if not name:
        return {"folder": None, "sets": []}
    folder = Path(name)
    if not folder.is_dir():
        problems.append(f"{_FOLDERS[0]} names {name}, which is no folder.")
        return {"folder": name, "sets": []}
    return {"folder": name, "sets": sorted(path.name for path in folder.iterdir() if path.is_dir())}


def _lines(found: dict[str, Any]) -> Iterator[str]:
    yield f"shape-models {found['shape_models']} in {found['folder']}"
    yield f"Python {found['python']}, {found['system']}"
    processors, threads = found["processors"], found["threads"]
    asked = ", ".join(f"{name}={threads[name]}" for name in _THREADS if threads[name] is not None) or "no limit set"
    yield f"processors: {processors['present']}, {processors['usable']} usable"
    yield f"threads: numba {threads['numba']}; {asked}"
    for pool in found["blas"]:
        words = [pool["internal_api"], pool["version"], f"{pool['num_threads']} threads"]
        yield f"{pool['user_api']}: {', '.join(str(word) for word in words if word)}"
    yield "needed: " + ", ".join(f"{name} {version or 'MISSING'}" for name, version in found["needed"].items())
    for extra, parts in found["optional"].items():
        yield f"optional, {extra}: " + ", ".join(_part(name, part) for name, part in parts.items())
    for name in ("compiled", "faces"):
        cache = found["caches"][name]
        state = "there" if cache["exists"] else "not there yet"
        yield f"cache, {name}: {cache['folder']} ({state}, {'can' if cache['writable'] else 'CANNOT'} be written)"
    yield "models: " + ", ".join(f"{name} ({size / 1e6:.1f} MB)" for name, size in found["models"].items())
    data, unset = found["data"], "SHAPE_MODELS_DATA is not set"
    yield f"data: {data['folder'] or unset}" + (f" ({', '.join(data['sets'])})" if data["sets"] else "")
    yield ""
    yield from (f"problem: {problem}" for problem in found["problems"])
    if not found["problems"]:
        yield "no problem found"


def _part(name: str, part: dict[str, Any] | None) -> str:
    if part is None:
        return f"{name} absent"
    words = [name, part["version"]] + ([] if part["imports"] else ["CANNOT BE IMPORTED"])
    if part.get("cuda") or part.get("mps"):
        words.append(f"({part['cuda'] or 'MPS'})")
    return " ".join(words)


@click.command(short_help="Describe the installation, for a bug report.")
@json_option
def doctor(as_json: bool) -> None:
    """Print versions, threads, BLAS, optional parts, caches, models and data, and what is wrong with them.

    A bug report needs it. Exit code 1 when something is wrong.
    """
    found = examine()
    say(as_json, found, list(_lines(found)))
    if found["problems"]:
        raise DataError(f"{len(found['problems'])} found in this installation.")
