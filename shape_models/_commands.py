"""What all command lines of the library share: the group, the errors, the options, reading and writing."""

from __future__ import annotations

import csv
import functools
import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
import numpy as np

from ._files import plain_json
from ._names import image_names, list_images

ENTRY_POINTS = "shape_models.commands"


class DataError(click.ClickException):
    """What is wrong with the data, in one line; the command ends with code 1."""

    exit_code = 1


class Group(click.Group):
    """A group of commands that ends with 0 (done), 1 (the data are at fault) or 2 (the command line is).

    Errors that the library raises for data become one line. Any other exception is a fault of the program and is shown
    as one. Commands can live in other modules: `elsewhere` names them, and packages announce them as entry points.
    """

    elsewhere: Mapping[str, str] = {}
    announced = ""
    data_errors: tuple[type[Exception], ...] = (ValueError, OSError)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(dict.fromkeys([*super().list_commands(ctx), *self.elsewhere, *self._announced()]))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.elsewhere:
            module, _, name = self.elsewhere[cmd_name].partition(":")
            return getattr(import_module(module), name)
        own = super().get_command(ctx, cmd_name)
        if own is None and cmd_name in self._announced():
            return self._announced()[cmd_name].load()
        return own

    def _announced(self) -> dict[str, Any]:
        return {point.name: point for point in entry_points(group=self.announced)} if self.announced else {}

    def invoke(self, ctx: click.Context) -> Any:
        with one_line_errors(self.data_errors):
            return super().invoke(ctx)


class Command(click.Command):
    """A command that stands alone, with the errors of a `Group`."""

    def invoke(self, ctx: click.Context) -> Any:
        with one_line_errors():
            return super().invoke(ctx)


class one_line_errors:
    """Turn errors of the data into one line, and let faults of the program through."""

    def __init__(self, kinds: tuple[type[Exception], ...] = Group.data_errors) -> None:
        self.kinds = kinds

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, BrokenPipeError):
            return
        absent = isinstance(error, ImportError) and "pip install" in str(error)  # an extra that is not installed
        if absent or isinstance(error, self.kinds):
            raise DataError(" ".join(str(error).split()) or type(error).__name__) from error


# --- Options ---------------------------------------------------------------------------------------------


class _Missing(click.ParamType):
    """``negative``, ``zero``, ``-1`` or ``-1,0``."""

    name = "VALUE[,VALUE]"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if not isinstance(value, str) or value in ("negative", "zero"):
            return value
        try:
            numbers = [float(part) for part in value.split(",")]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 2, 3):
            self.fail(f"got {value!r}; expected negative, zero, a number, or one a coordinate (-1,0).", param, ctx)
        return numbers[0] if len(numbers) == 1 else tuple(numbers)


_SOURCE = (
    click.option("--scheme", help="What the landmarks are: ibug68, wflw98, cofw29, imm58, muct68, ..."),
    click.option("--split", help="Part of a set that has parts: train, val, test, ..."),
    click.option("--missing", type=_Missing(), help="What marks a missing landmark: -1, or 0,0, or negative."),
    click.option("--origin", type=click.IntRange(0, 1), help="Number of the first pixel in .pts files. [default: 1]"),
    click.option("--frame", type=click.Choice(["pixels", "y_up", "relative", "physical"]),
                 help="What the numbers are, where the format cannot say it."),
    click.option("--image-size", nargs=2, type=click.IntRange(1), metavar="W H",
                 help="Width and height of the images, where they do not lie beside the files."),
    click.option("--extension", metavar="EXT,...", help="Which files of a folder: csv, or pts,json."),
    click.option("--archive", help="see source_options"),
    click.option("--groups", metavar="COLUMN", help="Column that names the person or photograph of each shape."),
    click.option("--read", "options", multiple=True, metavar="NAME=VALUE",
                 help="Another option of the format: scaled=true, part=face, columns=..., group=specimen, decimal=,"),
)  # fmt: skip
_ARCHIVE = "Read the folder as a public set: 300w, wflw, cofw, aflw2000, asmnet, ..."
READING = ("scheme", "split", "missing", "origin", "frame", "image_size", "extension", "archive", "groups", "options")


def source_options(*without: str, archive: Sequence[str] = ("--archive",)) -> Callable[[Any], Any]:
    """Give a command the options of `load_landmarks`; they arrive together, as `reading`."""

    def decorate(command: Any) -> Any:
        @functools.wraps(command)
        def run(*args: Any, **kwargs: Any) -> Any:
            reading = {name: kwargs.pop(name) for name in READING if name not in without}
            reading |= settings(reading.pop("options"), "--read")
            if reading.get("archive") == "folder":
                reading["archive"] = None
            return command(*args, reading=reading, **kwargs)

        wrapped = run
        for name, option in reversed(list(zip(READING, _SOURCE, strict=True))):
            if name == "archive":
                option = click.option(*archive, "archive", help=_ARCHIVE)
            if name not in without:
                wrapped = option(wrapped)
        return wrapped

    return decorate


def pairs(items: Sequence[str], option: str) -> dict[str, str]:
    """Parse NAME=VALUE, each name once."""
    found: dict[str, str] = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not equals or not name or name in found:
            raise click.UsageError(f"{option}: got {item!r}; expected NAME=VALUE, each name once.")
        found[name] = text
    return found


def settings(items: Sequence[str], option: str) -> dict[str, Any]:
    """Parse NAME=VALUE; the value is JSON where it can be, else text."""
    found: dict[str, Any] = {}
    for name, text in pairs(items, option).items():
        if name in READING:
            raise click.UsageError(f"{option}: got {name!r}; expected its own option, --{name.replace('_', '-')}.")
        try:
            found[name] = json.loads(text)
        except json.JSONDecodeError:
            found[name] = text
    return found


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def output_option(help: str, *, alias: str | None = None, **options: Any) -> Callable[[Any], Any]:
    """Return the option ``-o/--output``."""
    names = ("--output", "-o", *([alias] if alias else []), "output")
    return click.option(*names, help=help, **{"required": True, "type": click.Path(), **options})


# --- Reading ---------------------------------------------------------------------------------------------


def read(source: str | Path, reading: Mapping[str, Any], **more: Any) -> Any:
    """Read a set of landmarks into memory, with a bar where there are many, and say what the reader has to say."""
    from .datasets import load_landmarks

    samples = load_landmarks(source, **{**reading, **more})
    for note in samples.notes:
        click.echo(f"{source}: {note}", err=True)
    return samples.loaded(functools.partial(progress, label="reading"))


def progress(items: Sequence[Any], label: str = "", *, least: int = 200) -> Iterable[Any]:
    """Iterate with a bar on the error channel, where there are many items and somebody watches."""
    if len(items) < least or not sys.stderr.isatty():
        yield from items
        return
    with click.progressbar(items, label=label, file=sys.stderr) as bar:
        yield from bar


@dataclass(frozen=True)
class Image:
    """An image that a command was given, with the name that its outputs get."""

    path: Path
    name: str


def find_images(arguments: Sequence[str | Path]) -> list[Image]:
    """Return the images in files and folders, in natural order, each with a name of its own."""
    paths: list[Path] = []
    roots: list[Path | None] = []
    for argument in map(Path, arguments):
        if argument.is_dir():
            found = list_images(argument)
            paths += found
            roots += [argument] * len(found)
        elif argument.is_file():
            paths.append(argument)
            roots.append(None)
        else:
            raise DataError(f"{argument}: got no such file or folder.")
    return [Image(path, name) for path, name in zip(paths, image_names(paths, roots), strict=True)]


_CORNERS = (("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"), ("left", "top", "right", "bottom"))
_EXTENTS = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height"))
_NAMES = ("image", "name", "file", "filename", "image_name", "file_name", "path", "image_path")


def read_boxes(path: str | Path, images: Sequence[Image]) -> dict[str, list[list[float]]]:
    """Return the boxes (x0, y0, x1, y1) of each image by its name, out of a table whose header names the columns."""
    text = Path(path).read_text(encoding="utf-8-sig")
    first = text.split("\n", 1)[0]
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=max(",;\t", key=first.count)) if any(row)]
    header = [name.strip().lower() for name in rows[0]] if rows else []
    key = next((name for name in _NAMES if name in header), None)
    corners = next((names for names in (*_CORNERS, *_EXTENTS) if set(names) <= set(header)), None)
    if key is None or corners is None:
        raise DataError(
            f"{path}: got a table that begins with {first.strip()[:60]!r}; expected a first line that names the "
            "columns, in any order: image,x0,y0,x1,y1 (or image,x,y,width,height)."
        )
    if len(rows) < 2:
        raise DataError(f"{path}: got no boxes; expected a row for each under {','.join(rows[0])}.")
    places = [header.index(name) for name in corners]
    table: dict[str, list[list[float]]] = {}
    for number, row in enumerate(rows[1:], 2):
        try:
            if len(row) != len(header):
                raise ValueError(f"got {len(row)} fields")
            box = [float(row[place]) for place in places]
            if not np.isfinite(box).all():
                raise ValueError("got a number that is not finite")
        except ValueError as error:
            raise DataError(f"{path}, row {number}: {error}; expected {', '.join((key, *corners))}.") from None
        if corners in _EXTENTS:  # the last pixel is included
            box[2:] = [box[0] + box[2] - 1, box[1] + box[3] - 1]
        if not (box[2] > box[0] and box[3] > box[1]):
            raise DataError(f"{path}, row {number}: got the corners {box}; expected x0 < x1 and y0 < y1.")
        table.setdefault(row[header.index(key)].strip(), []).append(box)
    return {image.name: _boxes_of(image, images, table, path) for image in images}


def _boxes_of(
    image: Image, images: Sequence[Image], table: Mapping[str, list[list[float]]], source: str | Path
) -> list[list[float]]:
    """Find an image in the table by its path, its name, or the last part of either, where that says which."""
    suffix = image.path.suffix
    for keys in ((str(image.path), image.path.as_posix()), (image.name, image.name + suffix)):
        for name in keys:
            if name in table:
                return table[name]
    for part in (image.path.name, image.path.stem):
        if part in table:
            others = [o for o in images if part in (o.path.name, o.path.stem)]
            if len(others) > 1:
                raise DataError(
                    f"{source}: got {part!r}, the name of {' and of '.join(str(o.path) for o in others[:2])}; expected "
                    f"their paths, such as {image.name}{suffix}."
                )
            return table[part]
    raise DataError(f"{source}: got no box for {image.path}.")


# --- Writing ---------------------------------------------------------------------------------------------


def outputs(folder: Path, names: Sequence[str], endings: Sequence[str], inputs: Iterable[Path] = ()) -> None:
    """Refuse, before anything is written, results that would replace one another or an input."""
    given = {path.resolve() for path in inputs}
    taken: dict[Path, str] = {}
    known = set(names)
    for name in names:
        first, mark, number = name.rpartition("#")
        if mark and number.isdigit() and first in known:
            raise DataError(f"{name}: would be taken for an object in {first}. Rename one of these files.")
        for ending in endings:
            target = (folder / f"{name}{ending}").resolve()
            if target in taken:
                raise DataError(f"{target}: would hold what belongs to {taken[target]} and to {name}. Rename one.")
            if target in given:
                raise DataError(f"{target}: is one of the inputs and would be replaced. Try another folder for -o.")
            taken[target] = name


def say(as_json: bool, record: Mapping[str, Any], lines: Sequence[str]) -> None:
    """Print one JSON object, or lines."""
    click.echo(json.dumps(record, default=plain_json) if as_json else "\n".join(lines))


def counted(n: int, what: str, several: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{n} {what if n == 1 else several or what + 's'}"
