"""Model files: what goes in comes out bit by bit, and nothing but a model comes in."""

import io as stdio
import json
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from shape_models import (
    ASM,
    IBUG68,
    AlignedASM,
    Box,
    Ellipsoid,
    GeneralizedProcrustes,
    LandmarkScheme,
    Limit,
    ShapeBasis,
    SoftBox,
    load_model,
    make_faces,
    save_model,
)
from shape_models import io as model_io
from shape_models._archive import ModelFileError, read_archive, write_archive

ROOT = Path(__file__).resolve().parent.parent


def fitted(kind):
    faces = 100 * make_faces(40, rng=0) + 50
    if kind == "ShapeBasis":
        return ASM(4).fit(faces).basis_
    if kind == "ASM":
        return ASM(0.9, limit=2.5, shrinkage=0.1).fit(faces)
    if kind == "GeneralizedProcrustes":
        return GeneralizedProcrustes(tangent=True).fit(faces)
    faces[3, 5:9] = np.nan
    return AlignedASM(ASM(5, limit=Ellipsoid(4.0)), scheme="ibug68", refinements=1).fit(faces)


KINDS = ("ShapeBasis", "ASM", "GeneralizedProcrustes", "AlignedASM")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {kind: save_model(fitted(kind), folder / f"{kind}.npz") for kind in KINDS}


def state(thing):
    """All that a model holds, as nested plain parts with the exact bytes of arrays."""
    if isinstance(thing, np.ndarray):
        return (thing.dtype.str, thing.shape, thing.tobytes()) if thing.dtype != object else thing.tolist()
    if isinstance(thing, ShapeBasis):
        return [state(getattr(thing, k)) for k in ("mean", "components", "variances", "limit", "noise_variance")]
    if isinstance(thing, ASM | AlignedASM | GeneralizedProcrustes):
        return type(thing).__name__, {key: state(value) for key, value in sorted(vars(thing).items())}
    return thing


# --- There and back --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_comes_back_bit_by_bit(files, kind, tmp_path):
    model, again = fitted(kind), load_model(files[kind])
    save_model(model, tmp_path / "model.npz")  # which learns what else is learned at its first use
    assert type(again) is type(model)
    assert state(again) == state(model)


@given(st.integers(0, 2**32 - 1), st.sampled_from([np.float32, np.float64]), st.booleans())
def test_any_basis_comes_back(seed, dtype, flat):
    rng = np.random.default_rng(seed)
    p, q = rng.integers(2, 12), 1
    q = int(rng.integers(1, p + 1))
    limit = [None, 0.0, 3.0, np.inf, Box(2.0), Ellipsoid(1.5), SoftBox(3.0)][rng.integers(7)]
    basis = ShapeBasis(
        (rng.normal(size=p) if flat else rng.normal(size=(p, 1))).astype(dtype),
        np.linalg.qr(rng.normal(size=(p, q)))[0].T.astype(dtype),
        (10.0 ** rng.uniform(-300, 300, size=q) if dtype is np.float64 else rng.random(q)).astype(dtype),
        limit,
        noise_variance=float(rng.random() * 10.0 ** rng.integers(-300, 300)),
    )
    kind, header, arrays = model_io._to_parts(basis)
    buffer = rebuilt({"header": as_header({**base(kind), **json.loads(json.dumps(header))})} | arrays)
    assert state(opened(buffer)) == state(basis)


def test_schemes_and_custom_alignments_come_back(tmp_path):
    faces = make_faces(30, rng=0)[:, :4]
    scheme = LandmarkScheme(
        "corner", 4, groups={"top": [0, 1]}, edges=[(0, 1)], mirror=[1, 0, 3, 2], anchors={"eyes": ([0], [1])}
    )
    model = AlignedASM(ASM(2), alignment=GeneralizedProcrustes(mirror=[1, 0, 3, 2]), scheme=scheme).fit(faces)
    again = load_model(save_model(model, tmp_path / "m.npz"))
    assert again.scheme == again.scheme_ == scheme
    assert again.get_params()["asm__n_components"] == 2
    np.testing.assert_array_equal(again.alignment_.mirror, [1, 0, 3, 2])
    np.testing.assert_allclose(again.project(faces), model.project(faces), rtol=1e-12)


def test_feature_names_come_back(tmp_path, rng):
    asm = ASM(2).fit(rng.normal(size=(30, 3)))
    asm.feature_names_in_ = np.array(["länge", "b", "c"], dtype=object)
    again = load_model(save_model(asm, tmp_path / "m.npz"))
    assert again.feature_names_in_.dtype == object
    assert list(again.feature_names_in_) == ["länge", "b", "c"]


def test_the_header_names_the_conventions(files):
    kind, header, arrays = read_archive(files["AlignedASM"])
    assert kind == "AlignedASM"
    assert header["format"] == "shape_models"
    assert header["format_version"] == 1
    assert header["scheme"] == "ibug68"
    assert header["frame"] == "image"
    assert header["n_samples"] == 40
    assert header["limit"] == {"type": "Ellipsoid", "value": "4.0"}
    assert header["asm"]["divisor"] == "n - 1"
    assert header["asm"]["frame"] == "model"
    with np.load(files["AlignedASM"], allow_pickle=False) as plain:
        assert set(plain.files) == {"header", *arrays}


def test_metadata_is_kept(tmp_path):
    path = save_model(fitted("ShapeBasis"), tmp_path / "m.npz", metadata={"licence": "research use"})
    assert read_archive(path)[1]["metadata"] == {"licence": "research use"}
    with pytest.raises(ValueError, match="header: got something JSON cannot hold"):
        save_model(fitted("ShapeBasis"), path, metadata={"a": np.nan})
    assert isinstance(load_model(path), ShapeBasis)


def test_equal_models_give_equal_files(tmp_path):
    one, other = (save_model(fitted("AlignedASM"), tmp_path / name) for name in ("a.npz", "b.npz"))
    assert one.read_bytes() == other.read_bytes()


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = save_model(fitted("ShapeBasis"), tmp_path / "m.npz")
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no space"):
        save_model(fitted("ASM"), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_basis_of_another_library_is_saved_as_numbers(tmp_path):
    torch = pytest.importorskip("torch")
    basis = fitted("ShapeBasis")
    again = load_model(save_model(basis.like(torch.zeros(1, dtype=torch.float64)), tmp_path / "m.npz"))
    assert state(again) == state(basis)


class Mine:
    def to_archive(self):
        return "Mine", {"a": 1}, {"b": np.arange(3)}


def test_other_packages_register_their_kinds(tmp_path, monkeypatch):
    monkeypatch.setattr(model_io, "_LOADERS", dict(model_io._LOADERS))
    path = save_model(Mine(), tmp_path / "m.npz")
    kind, header, arrays = read_archive(path)
    assert (kind, header["a"], arrays["b"].tolist()) == ("Mine", 1, [0, 1, 2])
    package = Mine.__module__.split(".")[0]
    hint = rf"kind 'Mine'; expected one of ASM, .*ShapeBasis.*Try installing the package '{package}'"
    with pytest.raises(ModelFileError, match=hint):
        load_model(path)

    def load(header, arrays):
        return header["a"], arrays["b"].sum()

    model_io.register("Mine", load)
    model_io.register("Mine", load)
    assert load_model(path) == (1, 3)
    with pytest.raises(ValueError, match=r"'Mine', which .* reads; expected a name that is not taken"):
        model_io.register("Mine", dict)
    model_io.register("Broken", lambda header, arrays: arrays["none"])
    with pytest.raises(ModelFileError, match="parts of this Broken do not fit together: no entry 'none'"):
        load_model(write_archive(path, "Broken", {}, {}))


def test_installed_packages_announce_their_kinds(tmp_path, monkeypatch):
    with (ROOT / "pyproject.toml").open("rb") as file:
        announced = tomllib.load(file)["project"]["entry-points"][model_io.ENTRY_POINTS]
    points = EntryPoints(EntryPoint(kind, value, model_io.ENTRY_POINTS) for kind, value in announced.items())
    monkeypatch.setattr(model_io, "entry_points", points.select)
    others = {k: v for k, v in model_io._LOADERS.items() if k != "FaceModel3D"}
    monkeypatch.setattr(model_io, "_LOADERS", dict(others))
    assert type(load_model(ROOT / "pose" / "face3d.npz")).__name__ == "FaceModel3D"
    monkeypatch.setattr(model_io, "entry_points", lambda **kw: ())
    monkeypatch.setattr(model_io, "_LOADERS", others)  # an import registers too
    with pytest.raises(ModelFileError, match=r"kind 'FaceModel3D'; .* Try installing the package 'pose'"):
        load_model(ROOT / "pose" / "face3d.npz")


def test_a_search_is_read_without_importing_it_first():
    assert {"ASMFitter", "AppearanceModel", "PartsFitter"} <= set(model_io._LOADERS)
    code = (
        "import sys, shape_models as s; before = 'shape_models.search' in sys.modules; "
        "print(before, type(s.load_model('search68')).__name__)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.split() == ["False", "ASMFitter"]


# --- What cannot be saved --------------------------------------------------------------------------------


def test_what_cannot_be_saved(tmp_path, rng):
    class Mine(Limit):
        def clip(self, coefficients, scale):
            return coefficients

    path = tmp_path / "m.npz"
    with pytest.raises(ValueError, match="limit: got a Mine"):
        save_model(replace(fitted("ShapeBasis"), limit=Mine()), path)
    with pytest.raises(ValueError, match="got a dict; expected a ShapeBasis"):
        save_model({}, path)
    with pytest.raises(NotFittedError):
        save_model(ASM(), path)
    with pytest.raises(NotFittedError):
        save_model(AlignedASM(), path)
    with pytest.raises(ValueError, match=r"arrays\['a'\]: got object"):
        write_archive(path, "x", {}, {"a": np.array([None])})
    with pytest.raises(ValueError, match=r"got the name '\.\./a'"):
        write_archive(path, "x", {}, {"../a": np.zeros(3)})
    with pytest.raises(ValueError, match="which the file sets itself"):
        write_archive(path, "x", {"kind": "y"}, {})
    assert not path.exists()


# --- Hostile files ---------------------------------------------------------------------------------------


def npy(array, **changes):
    buffer = stdio.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array), **changes)
    return buffer.getvalue()


def base(kind="ShapeBasis"):
    return {"format": "shape_models", "format_version": 1, "kind": kind, "library_version": "0"}


def as_header(value):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return np.frombuffer(text, dtype=np.uint8)


def rebuilt(entries, compression=zipfile.ZIP_STORED):
    """A zip file with correct checksums around any contents."""
    buffer = stdio.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, value in entries.items():
            archive.writestr(f"{name}.npy", value if isinstance(value, bytes) else npy(value))
    return buffer.getvalue()


def opened(data):
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        file.write(data)
        file.flush()
        return load_model(file.name)


def refused(data, match=None):
    with pytest.raises(ModelFileError, match=match):
        opened(data)


def parts(path):
    _, header, arrays = read_archive(path)
    return header, arrays


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a model file, or the name of a bundled model: face68"):
        load_model("face86")
    with pytest.raises(FileNotFoundError):
        read_archive(tmp_path / "none.npz")
    with pytest.raises(ModelFileError, match="got a folder"):
        load_model(tmp_path)


def test_foreign_files(tmp_path):
    refused(b"", "no model file")
    refused(b"GIF89a" * 50, "no model file")
    refused(pickle.dumps({"a": 1}), "no model file")
    refused(rebuilt({}), "without header")
    refused(rebuilt({"shapes": np.zeros((3, 2))}), "without header")
    buffer = stdio.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../etc/passwd", b"x")
    refused(buffer.getvalue(), "plain names")


def test_a_pickle_is_never_read():
    class Bomb:
        def __reduce__(self):
            return os.mkdir, ("/tmp/this-folder-must-not-appear",)

    bomb = np.array([Bomb()], dtype=object)
    refused(rebuilt({"header": as_header(base()), "mean": npy(bomb, allow_pickle=True)}), "objects are never read")
    refused(rebuilt({"header": npy(bomb, allow_pickle=True)}), "objects are never read")
    assert not Path("/tmp/this-folder-must-not-appear").exists()


def test_declared_sizes_are_checked_before_memory_is_taken(files, tmp_path):
    import tracemalloc

    header = npy(np.zeros(3))
    huge = header.replace(b"(3,)", b"(99999999999,)")
    start = huge[:8] + struct.pack("<H", len(huge) - 10 - 24) + huge[10:]
    tracemalloc.start()
    refused(rebuilt({"header": as_header(base()), "mean": start}), "declares an array of shape|no plain array")
    many = npy(np.zeros((2, 3))).replace(b"(2, 3)", b"(0, 3)")
    refused(rebuilt({"header": as_header(base()), "mean": many}), "declares an array of shape")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    zeros = npy(np.zeros(4_000_000, dtype=np.uint8))
    bomb = tmp_path / "bomb.npz"
    bomb.write_bytes(rebuilt({"header": as_header(base()), "a": zeros, "b": zeros}, zipfile.ZIP_DEFLATED))
    assert bomb.stat().st_size < 20_000
    tracemalloc.start()
    with pytest.raises(ModelFileError, match="bytes declared; expected at most 5000000"):
        read_archive(bomb, max_bytes=5_000_000)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    with pytest.raises(ModelFileError, match="bytes; expected at most 100"):
        read_archive(files["ASM"], max_bytes=100)


def test_newer_and_older_versions():
    for version in (0, 2, "1", None, True, 1.0):
        refused(rebuilt({"header": as_header({**base(), "format_version": version})}), "format version")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\xff\xfe", "no JSON"),
        (b"[1]", "foreign"),
        (b'{"format": "other"}', "foreign"),
        (b"[" * 100_000, "nested|JSON"),
        (b'{"format": NaN}', "NaN"),
        (b'{"format": ' + b"9" * 10_000 + b"}", "JSON|foreign"),
        (json.dumps({**base(), "kind": 3}).encode(), "got kind 3"),
        (json.dumps(base("Unknown")).encode(), "kind 'Unknown'"),
        (json.dumps(base()).encode(), "do not fit together: no entry"),
    ],
)
def test_bad_headers(text, message):
    refused(rebuilt({"header": as_header(text)}), message)


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files(files, kind):
    data = files[kind].read_bytes()
    for end in np.linspace(0, len(data) - 1, 60).astype(int):
        refused(data[:end])


@given(st.binary(max_size=300))
def test_any_bytes_give_a_model_file_error(data):
    refused(data)
    refused(rebuilt({"header": data}))
    refused(rebuilt({"header": as_header(base()), "mean": data}))


@given(st.sampled_from(KINDS), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=5))
def test_changed_bytes_give_the_same_model_or_a_model_file_error(files, kind, changes):
    data = bytearray(files[kind].read_bytes())
    for where, value in changes:
        # More often in the headers and the directory at the end than among the numbers.
        place = where**3 if value % 2 else 1 - (1 - where) ** 3
        data[min(int(place * len(data)), len(data) - 1)] = value
    try:
        opened(bytes(data))
    except ModelFileError:
        pass


def _mutate(draw, value):
    """Change one leaf or branch of a JSON value."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(value)))
        change = draw(st.integers(0, 2))
        if change == 0:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: _mutate(draw, value[key])}
    return draw(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-3, 10**30),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(max_size=5),
            st.just([]),
            st.just({}),
            st.just([[1]]),
            st.just({"type": "Box"}),
            st.just({"type": "Box", "value": "nan"}),
        )
    )


@given(st.sampled_from(KINDS), st.data())
def test_changed_contents_give_a_model_or_a_model_file_error(files, kind, data):
    """Checksums are right here: only the meaning is wrong."""
    header, arrays = parts(files[kind])
    if data.draw(st.booleans()):
        header = _mutate(data.draw, header)
    if data.draw(st.booleans()) or not header:
        name = data.draw(st.sampled_from(sorted(arrays)))
        kind_of_change = data.draw(st.integers(0, 5))
        array = arrays[name]
        if kind_of_change == 0:
            del arrays[name]
        elif kind_of_change == 1:
            arrays[name] = array.astype(data.draw(st.sampled_from([np.int64, np.float32, bool, np.uint8])))
        elif kind_of_change == 2:
            arrays[name] = array.reshape(-1)[: data.draw(st.integers(0, array.size))]
        elif kind_of_change == 3 and array.size and array.dtype.kind == "f":
            arrays[name] = array.copy()
            arrays[name].flat[0] = data.draw(st.floats())
        elif kind_of_change == 4:
            arrays[name] = array.T
        else:
            arrays[name] = np.zeros(data.draw(st.lists(st.integers(0, 3), max_size=4)))
    try:
        model = opened(rebuilt({"header": as_header(header), **arrays}))
    except ModelFileError:
        return
    assert type(model).__name__ == json.loads(json.dumps(header))["kind"]
    basis = {"AlignedASM": lambda: model.asm_.basis_, "ASM": lambda: model.basis_, "ShapeBasis": lambda: model}
    if kind in basis:
        assert np.isfinite(basis[kind]().components).all()


# --- The bundled model -----------------------------------------------------------------------------------


def test_face68_is_there():
    model = load_model("face68")
    assert isinstance(model, AlignedASM)
    assert model.scheme_ is IBUG68
    assert model.asm_.event_shape_ == (68, 2)
    assert model.asm_.n_samples_ == 1750
    assert model.asm_.basis_.noise_variance > 0
    assert model.asm_.basis_.limit == 3.0
    _, header, _ = read_archive(Path(model_io.__file__).parent / "models" / "face68.npz")
    assert "research" in header["metadata"]["licence"]
    card = Path(model_io.__file__).parent / "models" / "face68.md"
    text = card.read_text(encoding="utf-8")
    assert "research" in text
    assert "1750" in text


@pytest.mark.data
def test_face68_is_what_the_command_in_its_card_makes(data_dir):
    from shape_models.datasets import read_300w

    model = AlignedASM(ASM(0.98), scheme="ibug68").fit(read_300w(data_dir / "300w", split="train").shapes())
    bundled = load_model("face68")
    assert model.asm_.n_components_ == bundled.asm_.n_components_
    np.testing.assert_allclose(model.asm_.mean_, bundled.asm_.mean_, rtol=0, atol=1e-9)
    np.testing.assert_allclose(model.asm_.components_, bundled.asm_.components_, rtol=0, atol=1e-6)
    np.testing.assert_allclose(model.asm_.explained_variance_, bundled.asm_.explained_variance_, rtol=1e-8)
    np.testing.assert_allclose(model.asm_.noise_variance_, bundled.asm_.noise_variance_, rtol=1e-8)
    np.testing.assert_allclose(model.asm_.covariance_, bundled.asm_.covariance_, rtol=0, atol=1e-12)
    seen = np.where(np.arange(68)[:, None] < 48, 100 * model.asm_.mean_, np.nan)
    np.testing.assert_allclose(model.complete(seen).radius(), bundled.complete(seen).radius(), rtol=1e-3)


def test_a_mask_is_not_lost_in_a_file(tmp_path):
    hidden = np.ma.array([1.0, 2.0], mask=[False, True])
    for value in (hidden, [hidden]):
        with pytest.raises(TypeError, match="masked array"):
            write_archive(tmp_path / "a.npz", "Example", {}, {"points": value})
    assert list(tmp_path.iterdir()) == []
