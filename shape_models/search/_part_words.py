"""Parts of an object as they are named on a command line, or in a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click


def parse_parts(given: Sequence[str], scheme: Any) -> dict[str, list[int]]:
    """Return the landmarks of each part: NAME=1-10,12, the name of a group, or a file with one of these a line."""
    items: list[str] = []
    for item in given:
        path = Path(item)
        if "=" in item or not path.is_file():
            items.append(item)
        elif path.suffix.lower() == ".json":
            table = json.loads(path.read_text(encoding="utf-8-sig"))
            if not isinstance(table, dict):
                raise click.UsageError(f"{path}: got no object; expected names and their landmarks.")
            for name, which in table.items():
                items.append(f"{name}={which if isinstance(which, str) else ','.join(map(str, which))}")
        else:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            items += [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    chosen: dict[str, list[int]] = {}
    for item in items:
        name, equals, text = item.partition("=")
        name = name.strip()
        if name in chosen:
            raise click.UsageError(f"--parts: got {name!r} twice; expected each once.")
        if not equals:
            groups = getattr(scheme, "groups", {})
            if name not in groups:
                known = ", ".join(groups) or "none"
                raise click.UsageError(
                    f"--parts: got {item!r}; expected NAME=1-10,12, a file, or a group of the scheme ({known})."
                )
            chosen[name] = groups[name].tolist()
            continue
        rows: list[int] = []
        for piece in text.replace(" ", "").split(","):
            first, dash, last = piece.partition("-")
            if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)):
                raise click.UsageError(f"--parts: got {item!r}; expected NAME=1-10,12, landmarks counted from 0.")
            rows += range(int(first), int(last if dash else first) + 1)
        chosen[name] = rows
    return chosen
