"""``python -m evaluation PRED TRUTH --protocol 300w``: measure files of landmarks from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np

from shape_models._commands import HELP, Command, json_option, output_option, read, save_figure, say, source_options
from shape_models._names import names_scheme
from shape_models.datasets import LandmarkSamples
from shape_models.landmarks import get_scheme

from ._comparison import compare
from ._evaluate import evaluate
from ._files import attributes_of, read_attributes
from ._pairs import pair
from ._reports import Report
from ._subsets import plain_key
from .protocols import get_protocol
from .published import PUBLISHED

_UNPAIRED = click.Choice(["raise", "failure"])
_FORMS = click.Choice(["text", "markdown", "csv", "json"])
_COMPARABLE = [key for key, table in PUBLISHED.items() if table.protocol]


@click.command(cls=Command, short_help="Measure predicted landmarks against true ones.", context_settings=HELP)
@click.argument("prediction", type=click.Path())
@click.argument("truth", type=click.Path())
@click.option("--protocol", "-p", required=True, help="Name of the protocol; an unknown one lists all.")
@click.option("--attributes", type=click.Path(), help="CSV with a column name and one for each attribute of the faces.")
@click.option("--group", help="Attribute that names the person or image; whole groups are resampled.")
@click.option("--against", type=click.Path(), help="Predictions of a second model, to compare with.")
@click.option("--name", help="What to call the model; the file name by default.")
@click.option(
    "--unpaired",
    type=_UNPAIRED,
    default="raise",
    show_default=True,
    help="Faces without a prediction: an error, or failures.",
)
@source_options("--groups")
@click.option("--confidence", default=0.95, show_default=True, help="Nominal coverage of the intervals.")
@click.option("--resamples", default=2000, show_default=True, help="Number of bootstrap samples.")
@click.option("--seed", default=0, show_default=True, help="Seed of the bootstrap.")
@click.option("--landmarks", type=click.Choice(["landmark", "group"]), help="Add the table of landmarks or of parts.")
@click.option("--beside", type=click.Choice(_COMPARABLE), help="Add a published table with this model in it.")
@click.option("--format", "form", type=_FORMS, default="text", show_default=True, help="Form of what is printed.")
@json_option
@output_option("Write the report to a file instead of printing it.", required=False)
@click.option("--ced", type=click.Path(), help="Write the cumulative error plot to this image.")
@click.option("--landmark-plot", type=click.Path(), help="Write the errors on the mean shape to this image.")
@click.option("--explain", is_flag=True, help="Print the protocol first.")
def main(prediction: str, truth: str, protocol: str, reading: dict[str, Any], **options: Any) -> None:
    """Measure PREDICTION against TRUTH by a protocol.

    Both are a folder of landmark files, a .npz with an array shapes, a .npy, a .csv with columns x0, y0, x1, y1 and so
    on, or another landmark file (.tps, .ljson, .json of COCO, .xml of dlib). Faces are paired by name where both have
    names, else by order, and then the report says so. --split, --archive and --extension choose among TRUTH.
    """
    rules = get_protocol(protocol)
    if options.pop("as_json"):
        options["form"] = "json"
    faces = _in_scheme(read(truth, {**reading, "unused": "ignore"}), rules.scheme)
    attributes = _attributes(faces, options["attributes"])
    groups = _groups(attributes, options["group"], rules.groups)
    needed = {plain_key(subset.attribute) for subset in rules.subsets if subset.attribute}
    known = {name: values for name, values in attributes.items() if plain_key(name) in needed}
    # A split, an archive and the kind of files are those of the truth; what else is said holds for both.
    own = {**reading, "split": None, "archive": None, "extension": None, "unused": "ignore"}
    reports, pairing = [], []
    for path in filter(None, (prediction, options["against"])):
        found = _in_scheme(read(path, own), rules.scheme)
        targets, predictions, how = pair(faces, found, allow_missing=options["unpaired"] == "failure")
        pairing.append(how)
        name = options["name"] if path == prediction and options["name"] else Path(path).stem
        measured = {"attributes": known or None, "groups": groups, "missing": options["unpaired"], **_interval(options)}
        reports.append(evaluate(targets, predictions, rules, name=name, **measured))
    say(False, None, [_text(reports, pairing, options)], options["output"])
    if options["ced"]:
        from .plotting import plot_ced

        threshold, confidence = rules.thresholds[-1], options["confidence"]
        save_figure(lambda: plot_ced(reports, threshold=threshold, confidence=confidence), options["ced"])
    if options["landmark_plot"]:
        from .plotting import plot_landmark_errors

        save_figure(lambda: plot_landmark_errors(reports[0]), options["landmark_plot"])


def _in_scheme(samples: LandmarkSamples, scheme: Any) -> LandmarkSamples:
    """Bring landmarks that bear the names of the scheme of a protocol into its order."""
    named = scheme is not None and samples.scheme is None and names_scheme(samples.labels, get_scheme(scheme))
    return samples.in_scheme(scheme) if named else samples


def _interval(options: dict[str, Any]) -> dict[str, Any]:
    return {"confidence": options["confidence"], "n_resamples": options["resamples"], "rng": options["seed"]}


def _attributes(faces: LandmarkSamples, path: str | None) -> dict[str, np.ndarray]:
    """Return the attributes of the truth file and of the separate one, in the order of the truth."""
    known = attributes_of(faces)
    if path is None:
        return known
    names, columns = read_attributes(path)
    if not faces.named:
        if len(names) != len(faces):
            raise ValueError(f"{path}: got {len(names)} rows; expected {len(faces)}, as {faces.source} has faces.")
        return {**known, **columns}
    place = {name: i for i, name in enumerate(names)}
    lacking = [name for name in faces.names if name not in place]
    if lacking:
        raise ValueError(
            f"{path}: {len(lacking)} faces of {faces.source} have no row, the first is "
            f"{lacking[0]!r}; expected one for each."
        )
    order = [place[name] for name in faces.names]
    return {**known, **{key: values[order] for key, values in columns.items()}}


def _groups(attributes: dict[str, np.ndarray], chosen: str | None, usual: str) -> np.ndarray | None:
    """Return the attribute that was chosen, or the one the protocol is resampled by where it is known."""
    key = chosen or (usual if usual in attributes else None)
    if key is None:
        return None
    if key not in attributes:
        raise ValueError(f"--group: got {key!r}; expected one of {', '.join(attributes) or '(none are given)'}.")
    return attributes[key].astype(str)


def _text(reports: list[Report], pairing: list[str], options: dict[str, Any]) -> str:
    form = options["form"]
    if form == "json":
        found: Any = [{**report.to_dict(), "pairing": how} for report, how in zip(reports, pairing, strict=True)]
        return json.dumps(found[0] if len(found) == 1 else found, indent=2)
    told = [how for how in dict.fromkeys(pairing) if "order" in how]
    if form == "csv":
        for how in told:
            click.echo(how, err=True)
        return "\n".join(report.to_csv().rstrip("\n") for report in reports)
    parts = [str(reports[0].protocol)] if options["explain"] else []
    tables = [report.table for report in reports]
    if options["landmarks"]:
        tables += [report.landmark_table(by=options["landmarks"]) for report in reports]
    if options["beside"]:
        tables.append(reports[0].beside(options["beside"]))
    parts += [table.to_markdown() if form == "markdown" else str(table) for table in tables]
    if len(reports) == 2:
        first, second = reports
        names = (first.name, second.name)
        parts.append(str(compare(first.errors, second.errors, groups=first.groups, names=names, **_interval(options))))
    return "\n\n".join([*parts, *told])


if __name__ == "__main__":
    main(prog_name="python -m evaluation")
