"""Every format and every field of a record: it comes back as it was, or the writer says that it has no place for it."""

from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shape_models import LandmarkFile, LandmarkFileError
from shape_models.datasets import load_landmarks, save_landmarks
from shape_models.formats import _registry

SIZE = (40, 30)
WITH_SIZE = (".tps", ".asf")  # count y from the bottom, or in fractions of the image
# What each format has a place for, besides planar pixels.
KEPT = {
    ".pts": {"missing"},
    ".npy": {"missing", "spatial", "physical"},
    ".asf": {"image", "relative"},
    ".tps": {"missing", "spatial", "image", "id", "scale", "curves", "text", "y_up"},
    ".ljson": {"missing", "spatial"},
    ".csv": {
        "missing",
        "spatial",
        "labels",
        "image",
        "id",
        "scale",
        "visibility",
        "confidence",
        "text",
        "y_up",
        "relative",
        "physical",
    },
    ".json": {"missing", "labels", "image", "id", "box", "visibility"},
    ".xml": {"labels", "image", "id", "scale", "box", "text"},
    ".txt": {"missing", "spatial", "id"},
    ".npz": {
        "missing",
        "spatial",
        "labels",
        "image",
        "id",
        "scale",
        "curves",
        "box",
        "visibility",
        "confidence",
        "text",
        "number",
        "y_up",
        "relative",
        "physical",
    },
}
FIELDS = sorted(KEPT[".npz"])
numbers = st.floats(0.5, 20, allow_nan=False).map(lambda x: round(x, 6))
words = st.text("abcdefgh", min_size=1, max_size=6)


@st.composite
def records(draw, field, n=3):
    """Draw two shapes with one field beyond their points."""
    files = []
    labels = draw(st.permutations(["nose", "eye", "chin"])) if field == "labels" else None
    for i in range(2):
        points = np.array(draw(st.lists(st.tuples(numbers, numbers), min_size=n, max_size=n)))
        attributes, more = {}, {}
        if field == "missing" and i == 0:
            points[draw(st.integers(0, n - 1))] = np.nan
        if field in ("spatial", "physical", "y_up"):
            more["frame"] = "physical" if field == "spatial" else field
        if field == "spatial":
            points = np.c_[points, points[:, :1] + i]
        if field == "relative":
            points, more["frame"] = points / 20, "relative"
        if field == "labels":
            more["labels"] = tuple(labels)
        if field == "image":
            more["image_name"] = f"{draw(words)}_{i}.jpg"
        own = {
            "id": lambda i=i: f"{draw(words)} {i}",
            "scale": lambda: draw(numbers),
            "curves": lambda: [np.array(draw(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=4)))],
            "box": lambda points=points: np.array([*points.min(axis=0), *points.max(axis=0) + 1]),
            "visibility": lambda: np.array(draw(st.lists(st.sampled_from([1, 2]), min_size=n, max_size=n))),
            "confidence": lambda: np.array(draw(st.lists(st.floats(0, 1), min_size=n, max_size=n))),
            "text": lambda: draw(words),
            "number": lambda: draw(numbers),
        }
        if field in own:
            attributes[{"text": "sex", "number": "age"}.get(field, field)] = own[field]()
        files.append(LandmarkFile(points, attributes=attributes, **more))
    return files


def value(sample, field):
    return {
        "labels": sample.labels,
        "image": sample.image_name,
        "box": sample.box,
        "curves": sample.curves,
        "text": sample.attributes.get("sex"),
        "number": sample.attributes.get("age"),
    }.get(field, sample.attributes.get(field))


def equal(got, wanted):
    if isinstance(wanted, np.ndarray):
        return got is not None and np.allclose(np.asarray(got, dtype=float), wanted, rtol=1e-12)
    if isinstance(wanted, list):
        return len(got) == len(wanted) and all(map(np.array_equal, got, wanted))
    return got == wanted


def write_and_read(files, ending, folder, field):
    """Return the set and what comes back: of one file where the format holds several shapes, else of a folder."""
    samples = load_landmarks(files)
    path = folder / ("set" if ending in _registry.ONE and ending != ".npy" else f"set{ending}")
    size = SIZE if ending in WITH_SIZE and field not in ("y_up", "relative", "spatial") else None
    unsaid = ending == ".txt" and samples.frame != "pixels"
    with pytest.warns(UserWarning, match="no place for the frame") if unsaid else nullcontext():
        save_landmarks(samples, path, extension=ending, image_size=size)
    again = load_landmarks(path, image_size=size)
    if sorted(again.names) == sorted(samples.names):  # files of a folder stand in natural order
        again = again.select([again.names.index(name) for name in samples.names])
    return samples, again


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("ending", [*(e for e in _registry.WRITERS), ".npz"])
def test_what_a_format_has_a_place_for_comes_back(tmp_path_factory, ending, field):
    @given(files=records(field))
    def check(files):
        folder = tmp_path_factory.mktemp("kept")
        try:
            samples, again = write_and_read(files, ending, folder, field)
        except LandmarkFileError:
            assert field not in KEPT[ending]
            return
        np.testing.assert_array_equal(np.isnan(again.shapes()), np.isnan(samples.shapes()))
        np.testing.assert_allclose(again.shapes(), samples.shapes(), rtol=1e-14)
        if field in ("missing", "spatial"):
            return
        if field in ("y_up", "relative", "physical"):
            assert (again.frame == samples.frame) == (field in KEPT[ending])
            assert again.frame == samples.frame or ending == ".txt"  # which warns
            return
        for one, other in zip(samples, again, strict=True):
            got = value(other, field)
            if field in KEPT[ending]:
                assert equal(got, value(one, field)), (got, value(one, field))
            else:  # left out, or as text: never another value
                absent = got is None or (isinstance(got, list) and not got) or str(got) == str(value(one, field))
                assert absent or field == "box" or (field == "id" and got == one.name), got

    check()


NOT_KEPT = {
    "labels": "abels",
    "scale": "scale",
    "curves": "urves",
    "visibility": "isibility",
    "confidence": "onfidence",
}


@pytest.mark.parametrize("ending", [".pts", ".npy", ".asf", ".tps", ".ljson", ".csv", ".json", ".xml"])
def test_writers_say_what_they_do_not_keep(ending):
    writer = {".json": _registry.write_coco}.get(ending) or _registry.WRITERS[ending]
    said = writer.__doc__
    for field, word in NOT_KEPT.items():
        if field not in KEPT[ending]:
            assert "not kept" in said or "are not" in said or "ttributes are not" in said, (ending, field)
            assert word in said or "ttributes" in said, (ending, field)
