"""What all command lines of the library share: the group, the errors, the options, reading and writing."""

from __future__ import annotations

import csv
import functools
import json
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from itertools import chain
from pathlib import Path
from typing import Any

import click
import numpy as np

from ._aligned import AlignedASM
from ._asm import ASM
from ._basis import ShapeBasis
from ._drawing import basis_of, get_pyplot
from ._files import atomic, plain_json, write_text
from ._names import composed, image_names, list_images
from .formats._record import FRAMES
from .formats._source import Source
from .formats._table import Rows, read_table
from .io import load_model

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
            found: click.Command = getattr(import_module(module), name)
            return found
        own = super().get_command(ctx, cmd_name)
        if own is None and cmd_name in self._announced():
            own = self._announced()[cmd_name].load()
        return own

    def _announced(self) -> dict[str, Any]:
        return {point.name: point for point in entry_points(group=self.announced)} if self.announced else {}

    def invoke(self, ctx: click.Context) -> Any:
        with one_line_errors(self.data_errors):
            return super().invoke(ctx)


HELP = {"help_option_names": ["-h", "--help"]}  # of every command


class Command(click.Command):
    """A command that stands alone, with the errors of a `Group`."""

    def invoke(self, ctx: click.Context) -> Any:
        with one_line_errors():
            return super().invoke(ctx)


@contextmanager
def one_line_errors(kinds: tuple[type[Exception], ...] = Group.data_errors) -> Iterator[None]:
    """Turn errors of the data into one line, and let faults of the program through."""
    try:
        yield
    except Exception as error:
        absent = isinstance(error, ImportError) and "pip install" in str(error)  # an extra that is not installed
        if isinstance(error, BrokenPipeError) or not (absent or isinstance(error, kinds)):
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, OSError) and error.strerror and error.filename:
            text = f"{error.filename}: got {error.strerror.lower()!r}; expected a file or folder that can be used."
        raise DataError(text) from error


# --- Options ---------------------------------------------------------------------------------------------


class _Numbers(click.ParamType):  # type: ignore[type-arg]
    """A number, or several between commas, or one of some words."""

    def __init__(self, name: str, counts: Sequence[int], expected: str, words: Sequence[str] = ()) -> None:
        self.name, self.counts, self.expected, self.words = name, counts, expected, words

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if not isinstance(value, str) or value in self.words:
            return value
        try:
            numbers = [float(part) for part in value.split(",")]
        except ValueError:
            numbers = []
        if len(numbers) not in self.counts:
            self.fail(f"got {value!r}; expected {self.expected}.", param, ctx)
        return numbers[0] if len(numbers) == 1 else tuple(numbers)


LABEL = _Numbers("VALUE or R,G,B", (1, 3), "a number, or three for a colour (255,0,0)")
MISSING = _Numbers(
    "VALUE[,VALUE]", (1, 2, 3), "negative, zero, a number, or one a coordinate (-1,0)", ("negative", "zero")
)

_SOURCE: dict[str, dict[str, Any]] = {
    "--scheme": {"help": "Landmark scheme of SOURCE: ibug68, wflw98, cofw29, imm58, muct68, ..."},
    "--split": {"help": "Part of a set that has parts: train, val, test, ..."},
    "--missing": {"type": MISSING, "help": "Value that marks a missing landmark: -1, or 0,0, or negative."},
    "--origin": {"type": click.IntRange(0, 1), "help": "What .pts files call the first pixel. [default: 1]"},
    "--frame": {"type": click.Choice(FRAMES), "help": "Coordinate frame, where the files do not record it."},
    "--image-size": {"nargs": 2, "type": click.IntRange(1), "metavar": "W H",
                     "help": "Width and height of the images, where they do not lie beside the files."},
    "--extension": {"metavar": "EXT,...", "help": "Which files of a folder: csv, or pts,json."},
    "--archive": {"help": "Read the folder as a public data set: 300w, wflw, cofw, aflw2000, asmnet, ..."},
    "--groups": {"metavar": "COLUMN", "help": "Column that names the person or image of each shape."},
    "--read": {"multiple": True, "metavar": "NAME=VALUE", "help": "Another option of the format: scaled=true, "
               "part=face, columns=..., group=specimen, decimal=,"},
}  # fmt: skip


def together(name: str, *options: Callable[[Any], Any], parse: Callable[..., Any] = dict) -> Callable[[Any], Any]:
    """Give a command options that arrive together, as one mapping called `name`."""

    def decorate(command: Any) -> Any:
        @functools.wraps(command)
        def run(*args: Any, **given: Any) -> Any:
            return command(*args, **{name: parse({key: given.pop(key) for key in keys})}, **given)

        before = len(getattr(command, "__click_params__", ()))
        for option in reversed(options):
            option(run)
        keys = [parameter.name for parameter in getattr(run, "__click_params__", [])[before:]]
        return run

    return decorate


def source_options(*without: str, also: Sequence[str] = ()) -> Callable[[Any], Any]:
    """Give a command the options of `load_landmarks`; they arrive together, as `reading`."""
    flags = {"--archive": ("--archive", *also, "archive")}
    options = [click.option(*flags.get(k, (k,)), **o) for k, o in _SOURCE.items() if k not in without]
    return together("reading", *options, parse=_reading)


def _reading(given: dict[str, Any]) -> dict[str, Any]:
    given |= settings(given.pop("read"), "--read")
    return {**given, "archive": None} if given["archive"] == "folder" else given


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
        if (own := f"--{name.replace('_', '-')}") in _SOURCE:
            raise click.UsageError(f"{option}: got {name!r}; expected its own option, {own}.")
        try:
            found[name] = json.loads(text)
        except json.JSONDecodeError:
            found[name] = text
    return found


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
boxes_option = click.option(
    "--boxes",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A table with the columns image, x0, y0, x1, y1, a row for each object.",
)


def output_option(help: str, *, alias: str | None = None, **options: Any) -> Callable[[Any], Any]:
    """Return the option ``-o/--output``; a command that has it never replaces what it reads."""
    names = ("--output", "-o", *([alias] if alias else []), "output")
    option = click.option(*names, help=help, **{"required": True, "type": click.Path(), **options})

    def decorate(command: Any) -> Any:
        @functools.wraps(command)
        def run(*args: Any, **given: Any) -> Any:
            _refuse_replacing(**given)
            return command(*args, **given)

        return option(run)

    return decorate


def _refuse_replacing(output: Any = None, target: Any = None, **given: Any) -> None:
    """Refuse a name for the result that is one of the files which the command is given."""
    path = output or target
    if not path or not Path(path).is_file():
        return
    for value in given.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, str | Path) and Path(item).is_file() and Path(item).samefile(path):
                raise DataError(f"{path}: is the input and would be replaced. Try another name for the output.")


# --- Reading ---------------------------------------------------------------------------------------------


def read(source: str | Path, reading: Mapping[str, Any], **more: Any) -> Any:
    """Read a set of landmarks into memory, with a bar where there are many, and say what the reader has to say."""
    from .datasets import load_landmarks

    samples = load_landmarks(source, **{**reading, **more})
    for note in samples.notes:
        click.echo(f"{source}: {note}", err=True)
    return samples.loaded(functools.partial(progress, label="reading"))


def say_curves(source: str, data: Any) -> None:
    """Say that curves beside the landmarks are no landmarks: a model learned from them knows nothing of the curves."""
    n = max(map(len, data.curves), default=0)
    if n:
        click.echo(
            f"{source}: the landmarks are fitted without {counted(n, 'curve')} beside them. "
            "Try shape_models.attach_curves, which samples the points of curves to landmarks.",
            err=True,
        )


def progress(items: Sequence[Any], label: str = "", *, least: int = 200) -> Iterable[Any]:
    """Iterate with a bar on the error channel, where there are many items and somebody watches."""
    if len(items) < least or not sys.stderr.isatty():
        yield from items
        return
    with click.progressbar(items, label=label, file=sys.stderr) as bar:
        yield from bar


@contextmanager
def steps() -> Iterator[Callable[[str, int, int], None]]:
    """Yield what shows a bar for each part of a training, on the terminal's error channel: (part, done, total)."""
    bars: dict[str, Any] = {}
    with ExitStack() as shown:

        def tell(what: str, done: int, total: int) -> None:
            if what not in bars:
                shown.close()  # the bar of the part before
                bars.clear()
                bar = click.progressbar(length=total, label=what, file=sys.stderr, hidden=not sys.stderr.isatty())
                bars[what] = shown.enter_context(bar)
            bars[what].update(done - bars[what].pos)

        yield tell


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
            raise DataError(f"{argument}: got no such file or folder; expected images.")
    return [Image(path, name) for path, name in zip(paths, image_names(paths, roots), strict=True)]


_CORNERS = (("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"), ("left", "top", "right", "bottom"))
_EXTENTS = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height"))
_NAMES = ("image", "name", "file", "filename", "image_name", "file_name", "path", "image_path")


def read_named(path: str | Path) -> tuple[int, list[str], Rows]:
    """Read a table of images or faces: which column names them, what all are called, and the rows with their lines."""
    header, rows = read_table(Source.of(path))
    key = next((i for name in _NAMES for i, other in enumerate(header) if other.lower() == name), None)
    if key is None:
        raise DataError(
            f"{path}: got the columns {', '.join(header)[:80]}; expected a first line that names the "
            "columns, one of them image or name."
        )
    if not rows:
        raise DataError(f"{path}: got no rows; expected one for each under {','.join(header)}.")
    return key, header, rows


def read_boxes(path: str | Path, images: Sequence[Image]) -> dict[str, list[list[float]]]:
    """Return the boxes (x0, y0, x1, y1) of each image by its name, out of a table whose header names the columns."""
    source = Source.of(path)
    key, header, rows = read_named(path)
    lower = [name.lower() for name in header]
    corners = next((names for names in (*_CORNERS, *_EXTENTS) if set(names) <= set(lower)), None)
    if corners is None:
        raise DataError(
            f"{path}: got the columns {', '.join(header)[:80]}; expected image,x0,y0,x1,y1, in any order, "
            "or image,x,y,width,height."
        )
    places = [lower.index(name) for name in corners]
    table: dict[str, list[list[float]]] = {}
    for line, row in rows:
        box = [source.number(row[place], header[place], line) for place in places]
        if corners in _EXTENTS:  # the last pixel is included
            box[2:] = [box[0] + box[2] - 1, box[1] + box[3] - 1]
        if not (box[2] > box[0] and box[3] > box[1]):
            raise DataError(f"{path}, line {line}: got the corners {box}; expected x0 < x1 and y0 < y1.")
        table.setdefault(composed(row[key]), []).append(box)
    return {image.name: _boxes_of(image, images, table, path) for image in images}


def _boxes_of(
    image: Image, images: Sequence[Image], table: Mapping[str, list[list[float]]], source: str | Path
) -> list[list[float]]:
    """Find an image in the table by its path, its name, or the last part of either, where that says which."""
    suffix = image.path.suffix
    for keys in ((str(image.path), image.path.as_posix()), (image.name, image.name + suffix)):
        for name in map(composed, keys):
            if name in table:
                return table[name]
    for part in map(composed, (image.path.name, image.path.stem)):
        if part in table:
            others = [o for o in images if part in map(composed, (o.path.name, o.path.stem))]
            if len(others) > 1:
                raise DataError(
                    f"{source}: got {part!r}, the name of {' and of '.join(str(o.path) for o in others[:2])}; expected "
                    f"their paths, such as {image.name}{suffix}."
                )
            return table[part]
    raise DataError(f"{source}: got no box for {image.path}; expected a row with its name.")


# --- Models ----------------------------------------------------------------------------------------------


def load_shape_model(name: str) -> Any:
    """Load a model of shapes, and no other kind."""
    model = load_model(name)
    if not isinstance(model, AlignedASM | ASM | ShapeBasis):
        raise ValueError(f"{name}: got a {type(model).__name__}; expected an AlignedASM, ASM or ShapeBasis.")
    return model


def names_and_frame(model: Any) -> tuple[Any, str | None]:
    """Return what the landmarks of a model are called and which frame it was fitted in, None where it is not known."""
    scheme = getattr(model, "scheme_", None)
    names = getattr(model, "landmark_names_", None) if scheme is None else scheme.names
    return names, getattr(model, "frame_", None)


def shapes_for(model: Any, data: Any) -> np.ndarray:
    """Return the landmarks of a set as a model takes them: its number, its order, its direction of y."""
    scheme = getattr(model, "scheme_", None)
    if scheme is not None and data.scheme is not None and scheme.name != data.scheme.name:
        raise ValueError(
            f"got landmarks of {data.scheme.name}; the model has those of {scheme.name}. "
            f"Try `shape-models convert` with --to-scheme {scheme.name}."
        )
    expected, got = tuple(basis_of(model).event_shape), data.shapes().shape[1:]
    if expected != got:
        raise ValueError(
            f"got shapes of {got} landmarks and dimensions; the model has {expected}. "
            "Try `shape-models convert` to another scheme."
        )
    return np.asarray(data.like(*names_and_frame(model)))


@contextmanager
def by_name(names: Sequence[str], what: str = "shapes?") -> Iterator[None]:
    """Call a shape that is at fault by its name instead of its place; of mirror images the command itself speaks."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "shapes: .* look like mirror images", UserWarning)
            yield
    except ValueError as error:
        text = re.sub(rf"\b{what}\[([0-9]+)\]", lambda match: names[int(match[1])], str(error))
        raise DataError(text) from error


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


def say(as_json: bool, record: Any, lines: Sequence[str], output: str | None = None) -> None:
    """Print one JSON object, or lines, or write them to a file."""
    text = "\n".join(lines)
    if as_json:  # which knows no NaN and no infinity: other programs would refuse the whole
        plain = json.loads(json.dumps(record, default=plain_json), parse_constant=lambda _: None)
        text = json.dumps(plain, allow_nan=False)
    if output is None:
        click.echo(text)
    else:
        write_text(output, text + "\n")


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table, as a whole or not at all."""
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(chain([header], rows))


def save_figure(draw: Callable[[], Any], path: str | Path) -> None:
    """Write what a function draws into an image, without a window."""
    get_pyplot().switch_backend("Agg")
    figure = draw().figure
    if Path(path).suffix.lower().lstrip(".") not in figure.canvas.get_supported_filetypes():
        raise DataError(f"{path}: got the extension {Path(path).suffix!r}; expected .png, .svg or .pdf.")
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=150)


def counted(n: int, what: str, several: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{n} {what if n == 1 else several or what + 's'}"
