"""XML read element by element, without entities or endless nesting."""

from __future__ import annotations

import re
from xml.parsers import expat

import numpy as np

from ._source import LandmarkFileError, Source, shorten

_ROOT = re.compile(r"<([A-Za-z_][\w.-]*)")


class XmlHandler:
    """What the parser calls; subclasses collect what they need in `start` and `end`."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.stack: list[str] = []
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self.text
        self.parser.StartDoctypeDeclHandler = self._refuse

    def parse(self) -> None:
        """Read the whole file."""
        text = re.sub(r"^\s*<\?xml[^>]*\?>", "", self.source.text)  # the text is decoded, whatever it says of itself
        try:
            self.parser.Parse(text.encode("utf-8", "surrogatepass"), True)
        except expat.ExpatError as error:
            raise self.source.error(f"not XML: {expat.ErrorString(error.code)}; expected XML.", error.lineno) from None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Take an element; `stack` holds its tag and those round it."""

    def end(self, tag: str) -> None:
        """Take the end of an element; `stack` holds those round it."""

    def text(self, data: str) -> None:
        """Take a piece of text."""

    def error(self, problem: str) -> LandmarkFileError:
        """Return an error with the line that is being read."""
        return self.source.error(problem, self.parser.CurrentLineNumber)

    def number(self, tag: str, attributes: dict[str, str], key: str) -> float:
        """Return the finite number of an attribute that must be there."""
        if key not in attributes:
            raise self.error(f"{tag}: got no {key!r}; expected one.")
        value = self.source.number(attributes[key].strip(), f"{tag}: {key}", self.parser.CurrentLineNumber)
        if np.isnan(value) or abs(value) > 1e300:  # corners are sums of such numbers, and stay finite
            raise self.error(f"{tag}: {key}: got {shorten(attributes[key])}; expected a number.")
        return value

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if len(self.stack) > 50:
            raise self.error("got more than 50 nested elements; expected a file of landmarks.")
        self.stack.append(tag)
        self.start(tag, attributes)

    def _end(self, tag: str) -> None:
        self.stack.pop()
        self.end(tag)

    def _refuse(self, *args: object) -> None:
        raise self.error("got a document type; entities are not expanded, expected plain XML.")


def root_of(source: Source) -> str:
    """Return the tag of the outermost element, or nothing."""
    text = re.sub(r"<\?.*?\?>|<!--.*?-->", "", source.text[:100_000], flags=re.DOTALL)
    found = _ROOT.search(text)
    return found[1] if found else ""
