"""The published tables, each cell beside what can be run here, or with the reason why it cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from asmnet._card import count_flops, count_parameters
from asmnet._configuration import VARIANTS
from asmnet.networks import build_network, network_spec
from evaluation import Report, Table
from evaluation.published import PUBLISHED, PublishedTable
from shape_models._options import check_choice
from shape_models.datasets import LandmarkSamples

__all__ = ["ARCHIVES_OF", "PAPERS", "reproduce"]

PAPERS = {
    "asmnet": ("asmnet-1", "asmnet-sizes", "asmnet-2", "asmnet-3", "asmnet-4", "asmnet-5"),
    "kd": ("kd-300w", "kd-cofw", "kd-wflw"),
    "sdu": ("sdu-2d", "sdu-3d", "sdu-sizes"),
}
"""The published tables of each paper."""
ARCHIVES_OF = {"300w": "300w", "wflw": "wflw", "cofw": "cofw", "aflw2000-3d": "aflw2000"}
"""The archive of `load_landmarks` that reads each test set."""
_PARTS = {
    "asmnet-300w": ("common", "challenging"),
    "sdu-ibug": ("challenging",),
    "sdu-300w": ("private",),
    "asmnet-wflw": ("test",),
    "asmnet-cofw": ("test",),
    "sdu-cofw": ("test",),
}
_NETWORKS = {name: network for name, (network, _) in VARIANTS.items()} | {"MobileNetV2": "mobilenetv2"}
_TRAINING = {
    **{name: f"asmnet train FOLDER --preset paper --variant {name}" for name in VARIANTS},
    "MobileNetV2": "asmnet train FOLDER --preset kd --network mobilenetv2",
    "student, KD-Loss": "asmnet distill FOLDER --preset kd",
    "student, tough teacher": "asmnet distill FOLDER --preset kd --teachers tough",
    "student, tolerant teacher": "asmnet distill FOLDER --preset kd --teachers tolerant",
    "EfficientNet-B3": "asmnet distill FOLDER --preset kd, its tough teacher",
}
_CITED = "quoted by the authors from another paper"
_POSE = "the true angles of the authors come from HopeNet, which is not part of this package"


def reproduce(
    paper: str,
    models: Mapping[str, str | Path] | None = None,
    data: Mapping[str, LandmarkSamples] | None = None,
    *,
    measure: Callable[[str | Path, LandmarkSamples, str], Report] | None = None,
) -> str:
    """Return the tables of a paper, each number beside that of a run here or with the reason why there is none.

    Parameters
    ----------
    paper : {"asmnet", "kd", "sdu"}
        Whose tables.
    models : mapping of str to path, optional
        Which file or shipped model was trained as a row of the tables says (``{"ASMNet": "asmnet-68"}``).
    data : mapping of str to LandmarkSamples, optional
        The sets that are there: ``"300w"``, ``"wflw"``, ``"cofw"``, ``"aflw2000-3d"``. A table measures the part
        of each that its authors measured: of 300-W common and challenging, challenging alone, or the private set.
    measure : callable, optional
        Is given a model, samples and the name of a protocol, and returns an `evaluation.Report`; by default
        `asmnet.measuring.measure_model` with one look at each face in its true box, as the authors measured.

    Returns
    -------
    str
        Each table as it was printed, then each cell as ``printed | here``; a number in brackets points to a reason.

    Raises
    ------
    ValueError
        For an unknown paper, a model of a row that no table has, and data of another name.

    Examples
    --------
    >>> from asmnet.reproduction import reproduce
    >>> text = reproduce("kd")
    >>> "KD-Loss on COFW" in text, "no images of cofw" in text
    (True, True)
    """
    check_choice(PAPERS, paper=paper)
    models, data = dict(models or {}), dict(data or {})
    tables = [PUBLISHED[key] for key in PAPERS[paper]]
    for name in models:
        if not any(name in table.rows for table in tables):
            known = dict.fromkeys(row for table in tables for row in table.rows if row not in table.cited)
            raise ValueError(f"models: got {name!r}; expected rows of the tables: {', '.join(map(repr, known))}.")
    for name in data:
        check_choice(ARCHIVES_OF, data=name)
    reports: dict[tuple[str, str], Any] = {}

    def report(row: str, protocol: str, kind: str) -> Any:
        """Return the report of a model, or the reason why there is none."""
        if (row, protocol) not in reports:
            samples, parts = data[kind], _PARTS.get(protocol)
            if parts is not None:
                samples = samples.select([split in parts for split in samples.splits])
                if not len(samples):
                    return f"the given {kind} has no faces of the part {' or '.join(parts)}"
            try:
                reports[row, protocol] = (measure or _measured)(models[row], samples, protocol)
            except ValueError as error:
                reports[row, protocol] = str(error).rstrip(".")
        return reports[row, protocol]

    parts = []
    for table in tables:
        reasons: list[str] = []
        rows = []
        for row in table.rows:
            cells = []
            for column in table.columns:
                printed = table.printed(row, column)
                here, why = _cell(table, row, column, models, data, report)
                if why and why not in reasons:
                    reasons.append(why)
                cells.append(f"{printed or '-'} | {here or f'not run [{reasons.index(why) + 1}]'}")
            rows.append([row, *cells])
        notes = [f"[{i + 1}] not run: {why}." for i, why in enumerate(reasons)]
        notes += [f"{row}: {models[row]}, run here." for row in table.rows if row in models]
        title = f"{table.title}: as printed | as run here"
        parts.append(str(Table(["method", *table.columns], rows, title=title, notes=[*table.notes, *notes])))
    return "\n\n".join(parts)


def _cell(
    table: PublishedTable,
    row: str,
    column: str,
    models: Mapping[str, Any],
    data: Mapping[str, Any],
    report: Callable[[str, str, str], Any],
) -> tuple[str | None, str]:
    """Return a number of a run here, or None and the reason."""
    if row in table.cited and row not in models:
        return None, _CITED
    words = column.lower()
    if words in ("params (m)", "flops (b)"):
        name = _NETWORKS.get(row)
        if name is None:
            return None, f"{row} is not among the networks of this package"
        network = build_network(name, 68)
        if words.startswith("params"):
            return f"{count_parameters(network) / 1e6:.2f}", ""
        return f"{count_flops(network, network_spec(name).input_size) / 2e9:.3f}", ""  # multiply-adds, as printed
    if words == "model size":
        return None, "the networks of this table are not built here as published; asmnet info lists those that are"
    if any(angle in words for angle in ("yaw", "pitch", "roll")):
        return None, _POSE
    if not table.protocol:
        kind = words.split()[0]
        kind = {"ibug": "300w"}.get(kind, kind)
        protocol = {"asmnet-1": f"asmnet-{kind}", "sdu-2d": f"sdu-{words.split()[0]}"}.get(table.key, "")
        subset = "full" if table.key == "asmnet-1" else "all"
    else:
        protocol, subset = table.protocol, table.subsets[table.columns.index(column)]
        kind = {"ibug": "300w"}.get(protocol.split("-", 1)[1], protocol.split("-", 1)[1])
    if not protocol:
        return None, "no protocol of this package measures it"
    if kind not in data:
        return None, f"no images of {kind} were given: --data {kind}=FOLDER"
    if row not in models:
        training = _TRAINING.get(row)
        how = f"train them by {training}" if training else "train them by asmnet train FOLDER --preset sdu"
        return None, f"no weights of {row}: {how}, then --model '{row}=FILE'"
    found = report(row, protocol, kind)
    if isinstance(found, str):
        return None, found
    metrics = {r.name: r.metrics for r in found.rows}
    if subset not in metrics:
        return None, f"the given {kind} has no faces of the part {subset}"
    key = {"fr": "FR@0.1", "auc": "threshold-weighted AUC@0.1"}.get(words.split()[-1], "NME")
    value = metrics[subset].get(key)
    if value is None:
        return None, f"the protocol {protocol} does not measure {key}"
    return f"{value.estimate:.4f}" if "AUC" in key else f"{100 * value.estimate:.2f}", ""


def _measured(model: str | Path, samples: Any, protocol: str) -> Any:
    from asmnet.measuring import measure_model
    from asmnet.predictor import Predictor

    return measure_model(Predictor.from_pretrained(str(model)), samples, protocol=protocol, n_passes=1).report
