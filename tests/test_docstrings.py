"""Docstrings say what every parameter and every answer is, in the form of numpydoc."""

import ast
import dataclasses
import inspect
import re
import textwrap

import pytest
from test_architecture import _public_objects

pytest.importorskip("numpydoc", reason="numpydoc is not installed: the form of the docstrings is not judged")
from numpydoc.docscrape import get_doc_object
from numpydoc.validate import validate

WRONG = {"GL07", "GL08", "RT01", "RT02", "RT04", *(f"PR{i:02}" for i in range(1, 11))}


def members(path, thing):
    """Yield a public object and, of a class, the methods and properties that it defines itself."""
    yield path, thing
    if inspect.isclass(thing):
        for name, member in vars(thing).items():
            function = getattr(member, "__func__", member)
            if not name.startswith("_") and (inspect.isfunction(function) or isinstance(member, property)):
                yield f"{path}.{name}", function


def described(thing):
    """Return what the sections Parameters and Attributes of a class name."""
    doc = get_doc_object(thing)
    entries = [*doc["Parameters"], *doc["Attributes"]]
    return {name.strip() for entry in entries for name in entry.name.split(",")}


def problems(path, thing):
    found = [(code, text) for code, text in validate(path)["errors"] if code in WRONG]
    if dataclasses.is_dataclass(thing) or (inspect.isclass(thing) and issubclass(thing, tuple)):
        # The fields of a record may stand under Attributes, and those it inherits with the class they come from.
        bases = [base for base in thing.__mro__[1:] if dataclasses.is_dataclass(base)]
        known = described(thing).union(*map(described, bases))
        fields = {name for name in inspect.signature(thing).parameters if not name.startswith("_")}
        found = [(code, text) for code, text in found if code != "PR01"]
        found += [("PR01", f"fields {sorted(fields - known)} are not described")] if fields - known else []
    if inspect.isclass(thing) and getattr(thing, "_is_protocol", False):
        found = [(code, text) for code, text in found if code != "PR01"]  # nobody constructs a protocol
    return [f"{path}: {code} {text}" for code, text in found]


def test_every_parameter_and_every_answer_is_described():
    checked = [pair for path, thing in _public_objects() for pair in members(path, thing)]
    assert len(checked) > 600
    wrong = [line for path, thing in checked for line in problems(path, thing)]
    assert not wrong, "\n".join(wrong)


ARRAYS = re.compile(r"\b(array_like|ndarray|array|Tensor)\b")
HELD = re.compile(r"\b(dict|mapping|sequence|list|tuple|path)\b")  # arrays in these have shapes of their own


def raised(function):
    """Return whether the body of a function raises by itself."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    return any(isinstance(node, ast.Raise) and node.exc is not None for node in ast.walk(definition))


def gaps(path, thing):
    """Yield arrays that are described without a shape, and exceptions that are not described."""
    doc = get_doc_object(thing)
    for entry in (*doc["Parameters"], *doc["Returns"], *doc["Attributes"]):
        kind = entry.type or entry.name
        known = re.search(r"shape|\(|same|\b[Aa]s |library", f"{kind} {' '.join(entry.desc)}")
        if ARRAYS.search(kind) and not HELD.search(kind) and not known:
            yield f"{path}: {entry.name or 'what it returns'}: {kind} has no shape"
    if inspect.isfunction(thing) and not doc["Raises"] and raised(thing):
        yield f"{path}: raises, and has no section Raises"


def test_arrays_have_shapes_and_exceptions_are_described():
    checked = [pair for path, thing in _public_objects() for pair in members(path, thing)]
    wrong = [line for path, thing in checked for line in gaps(path, thing)]
    assert not wrong, "\n".join(wrong)


def test_a_gap_would_be_found(tmp_path, monkeypatch):
    """The judge itself: a parameter and an answer that nobody described."""
    code = 'def half(number):\n    """Return half of a number."""\n    return number / 2\n'
    (tmp_path / "module_with_a_gap.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    import module_with_a_gap

    found = problems("module_with_a_gap.half", module_with_a_gap.half)
    assert [line.split()[1] for line in found] == ["PR01", "RT01"]


def test_an_array_without_a_shape_would_be_found(tmp_path, monkeypatch):
    doc = "Return half.\\n\\n    Parameters\\n    ----------\\n    x : ndarray\\n        Points.\\n    "
    code = f'def half(x):\n    """{doc}"""\n    if not x.size:\n        raise ValueError("none")\n    return x / 2\n'
    (tmp_path / "module_with_an_array.py").write_text(code.replace("\\n", "\n"))
    monkeypatch.syspath_prepend(tmp_path)
    import module_with_an_array

    found = list(gaps("half", module_with_an_array.half))
    assert found == ["half: x: ndarray has no shape", "half: raises, and has no section Raises"]
