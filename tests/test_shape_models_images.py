"""One image, whatever holds it: a path, a Pillow image and an array give the same answer, upright and in one range."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from shape_models.images import (
    ImageFileError,
    ImageFileNotFoundError,
    check_boxes_inside,
    check_inside,
    image_size,
    read_image,
    read_values,
)

GREY = np.random.default_rng(0).integers(0, 256, (17, 23)).astype(np.uint8)
GREY[0, :2] = 0, 255  # the whole range
COLOUR = np.random.default_rng(1).integers(0, 256, (17, 23, 3)).astype(np.uint8)


def upright_oracle(stored, orientation):
    """What the EXIF standard says of where row 0 and column 0 of the stored image stand."""
    rows, columns = stored.shape[:2]
    out = np.empty((columns, rows) if orientation >= 5 else (rows, columns), stored.dtype)
    for i in range(rows):
        for j in range(columns):
            place = {
                1: (i, j),
                2: (i, columns - 1 - j),
                3: (rows - 1 - i, columns - 1 - j),
                4: (rows - 1 - i, j),
                5: (j, i),
                6: (j, rows - 1 - i),
                7: (columns - 1 - j, rows - 1 - i),
                8: (columns - 1 - j, i),
            }[orientation]
            out[place] = stored[i, j]
    return out


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", ["png", "tif", "jpg", "webp"])
def test_exif_orientation_is_applied_once(tmp_path, extension, orientation):
    path = tmp_path / f"a.{extension}"
    image = Image.fromarray(GREY)
    exif = image.getexif()
    exif[0x0112] = orientation
    lossy = {"quality": 100} if extension == "jpg" else {"lossless": True} if extension == "webp" else {}
    image.save(path, exif=exif, **lossy)
    expected = upright_oracle(GREY, orientation)
    read = read_image(path)
    read = read if read.ndim == 2 else read[..., 0]
    assert np.abs(read.astype(int) - expected).max() <= (3 if extension == "jpg" else 0)
    assert image_size(path) == expected.shape[::-1]
    with path.open("rb") as stream, Image.open(stream) as opened:
        np.testing.assert_array_equal(read_image(opened), read_image(path))


def _saved(path, array):
    Image.fromarray(array).save(path)
    return path


@pytest.mark.parametrize(
    ("array", "maximum"),
    [
        (GREY, None),
        (GREY.astype(np.uint16) * 257, None),
        ((GREY / 255).astype(np.float32), None),
        (GREY.astype(np.float32), 255),
        ((GREY / 255 * 1023).round().astype(np.uint16), 1023),
        ((GREY / 255 * 4095).round().astype(np.uint16), 4095),
        ((GREY / 255 * 16383).round().astype(np.uint16), 16383),
        ((GREY / 255 * (2**31 - 1)).round().astype(np.int32), 2**31 - 1),
        ((GREY / 255 * 4095).round().astype(np.int32), 4095),
        (GREY.astype(np.int32), None),
    ],
    ids=["8", "16", "float", "float255", "10", "12", "14", "int32", "12 in int32", "8 in int32"],
)
def test_every_depth_is_the_same_picture(tmp_path, array, maximum):
    path = _saved(tmp_path / "a.tif", array)
    for image in (path, str(path), array, Image.fromarray(array), array[..., None]):
        if maximum is not None:  # never nearly black, never white: an error that says what to do
            with pytest.raises(ValueError, match=rf"Try shape_models.images.read_image\(..., maximum={maximum}\)"):
                read_image(image)
        assert np.abs(read_image(image, maximum=maximum).astype(int) - GREY).max() <= 1
    with pytest.raises(ValueError, match="maximum: got -1"):
        read_image(array, maximum=-1)


def test_a_file_that_says_its_depth_needs_no_maximum(tmp_path):
    ten = (GREY / 255 * 1023).round().astype(np.uint16)
    image = Image.fromarray(ten)
    image.save(tmp_path / "a.tif", tiffinfo={281: 1023})
    assert np.abs(read_image(tmp_path / "a.tif").astype(int) - GREY).max() <= 1
    (tmp_path / "a.pgm").write_bytes(b"P5 23 17 1023\n" + ten.astype(">u2").tobytes())
    assert np.abs(read_image(tmp_path / "a.pgm").astype(int) - GREY).max() <= 1
    _saved(tmp_path / "a.png", GREY.astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), GREY)


def test_dark_pictures_of_16_bits_are_asked_for(tmp_path):
    dark = np.full((4, 4), 900, np.uint16)
    with pytest.raises(ValueError, match=r"maximum=1023.*or maximum=65535 if it is as dark as that"):
        read_image(_saved(tmp_path / "a.tif", dark))
    assert (read_image(dark, maximum=65535) == 4).all()
    assert (read_image(np.zeros((4, 4), np.uint16)) == 0).all()  # black is black in every range


def test_colours_of_all_kinds(tmp_path):
    picture = Image.fromarray(COLOUR)
    for mode, extension in (("RGB", "png"), ("CMYK", "tif"), ("P", "png"), ("RGBA", "png"), ("YCbCr", None)):
        other = picture.quantize(256) if mode == "P" else picture.convert(mode)
        out = read_image(other)
        assert out.shape == COLOUR.shape
        limit = {"P": 60, "YCbCr": 4}.get(mode, 0)
        assert np.abs(out.astype(int) - COLOUR).mean() <= limit
        if extension is not None:
            other.save(tmp_path / f"{mode}.{extension}")
            np.testing.assert_array_equal(read_image(tmp_path / f"{mode}.{extension}"), out)
    one = np.eye(8, dtype=bool)
    assert read_image(one).max() == read_image(_saved(tmp_path / "1.png", one)).max() == 255
    assert np.array_equal(read_image(tmp_path / "1.png"), read_image(one))


@pytest.mark.parametrize("hidden", [0, 255])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_what_is_drawn_in_black_on_nothing_is_its_alpha(tmp_path, mode, hidden):
    """Programs leave any colour where nothing is seen: on black all of such a mask is 0."""
    drawn = np.zeros((12, 16), np.uint8)
    drawn[3:9, 4:12] = 255
    colour = np.where(drawn > 0, 0, hidden).astype(np.uint8)
    path = tmp_path / "mask.png"
    Image.fromarray(np.dstack([colour] * (len(mode) - 1) + [drawn])).save(path)
    assert np.array_equal(read_values(path), drawn)
    assert np.array_equal(read_image(path), drawn)
    solid = np.dstack([0 * drawn] * 3 + [0 * drawn + 255])
    assert read_values(solid).shape == (12, 16, 3)
    assert not read_values(solid).any()


def test_alpha_is_laid_on_black_in_every_type(tmp_path):
    alpha = np.full(GREY.shape, 128, np.uint8)
    expected = (COLOUR.astype(int) * 128 + 127) // 255
    rgba = np.dstack([COLOUR, alpha])
    path = _saved(tmp_path / "a.png", rgba)
    for image in (path, rgba, rgba.astype(np.uint16) * 257, rgba / 255, rgba.astype(int)):
        assert np.abs(read_image(image).astype(int) - expected).max() <= 1
    assert read_image(np.dstack([GREY, alpha])).shape == GREY.shape
    assert read_values(np.dstack([GREY, 0 * alpha])).max() == 0
    keyed = Image.fromarray(GREY)
    keyed.save(tmp_path / "k.png", transparency=255)
    assert read_image(tmp_path / "k.png")[0, 1] == 0
    with pytest.raises(ValueError, match=r"alpha channel of float64 from 0.0 to 255.0; expected 0 to 1"):
        read_values(np.dstack([GREY, np.where(np.eye(17, 23) > 0, 0, 255)]).astype(float))


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.int16, np.int64, np.float32, np.float64, np.bool_, ">u2", ">f4"]),
        st.lists(st.integers(1, 4), min_size=2, max_size=3).map(tuple),
    )
)
def test_arrays_are_read_or_refused(array):
    try:
        out = read_image(array)
    except ValueError as error:
        assert str(error).startswith("image: got")  # noqa: PT017
    else:
        assert out.dtype == np.uint8
        n_channels = array.shape[2] if array.ndim == 3 else 1
        drawn = n_channels == 4 and np.ptp(array[..., 3].astype(float)) > 0 and not array[array[..., 3] > 0, :3].any()
        assert out.shape == (*array.shape[:2], *([3] if n_channels > 2 and not drawn else []))


def test_what_is_no_image_is_refused(tmp_path):
    for image, words in [
        (np.ma.masked_equal(GREY, 0), "masked array"),
        ([np.ma.masked_equal(row, 0) for row in GREY], "masked array"),
        (np.full((3, 3), np.nan), "NaN or infinity in 9 values"),
        (np.zeros((3, 40, 50)), "channels belong last"),
        (np.zeros((0, 5)), r"shape \(0, 5\)"),
        (np.zeros((5, 5), complex), "got complex128; expected numbers"),
        (np.array([["a"]]), "expected numbers"),
        (None, "expected numbers"),
        ([[1, 2], [3]], "got a list"),
        ({"a": 1}, "expected numbers"),
        (np.full((3, 3), -1.0), "Try scaling it to 0...1"),
        (np.full((3, 3), 300), "got int64 from 300 to 300; expected 0 to 255"),
        (np.full((3, 3), -5, np.int16), "got int16 from -5 to -5"),
    ]:
        with pytest.raises(ValueError, match=words):
            read_image(image)
    with pytest.raises(ImageFileNotFoundError, match=r"none.png: got no such image file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(FileNotFoundError, match="no regular file"):
        read_image(tmp_path)
    with pytest.raises(ImageFileNotFoundError):
        read_image("a\0b.png")
    good = _saved(tmp_path / "a.png", GREY).read_bytes()
    for name, content in (("a.png", good[:80]), ("b.png", b"no image"), ("c.png", b""), ("d.jpg", good[:30])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageFileError, match=f"{name}: (cannot be read as an image|got no image)"):
            read_image(tmp_path / name)


@pytest.mark.skipif(not hasattr(__import__("os"), "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_no_image(tmp_path):
    __import__("os").mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageFileNotFoundError, match="no regular file"):
        read_image(tmp_path / "pipe")


def test_a_bomb_is_refused_by_its_header(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.new("1", (13_000, 13_000)).save(path)
    with pytest.raises(ImageFileError, match=r"a.png: got 13000 x 13000 pixels; expected at most 160,000,000"):
        read_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # beyond twice as many Pillow refuses
    with pytest.raises(ImageFileError, match=r"b.png: got more than 160,000,000 pixels"):
        read_image(_saved(tmp_path / "b.png", np.zeros((10, 17), np.uint8)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 150)  # beyond it Pillow warns
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(_saved(tmp_path / "b.png", np.zeros((10, 17), np.uint8))).shape == (10, 17)


def test_damaged_files_raise_the_own_error(tmp_path):
    rng = np.random.default_rng(0)
    exif = Image.fromarray(GREY).getexif()
    exif[0x0112] = 6
    for extension in ("png", "tif", "jpg", "gif", "bmp"):
        path = tmp_path / f"a.{extension}"
        Image.fromarray(GREY).save(path, **({"exif": exif} if extension in ("png", "tif", "jpg") else {}))
        good = path.read_bytes()
        for _ in range(60):
            data = bytearray(good)
            for place in rng.integers(0, min(len(data), 200), 3):
                data[place] = rng.integers(256)
            path.write_bytes(data)
            for read in (read_image, image_size):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    try:
                        read(path)
                    except ValueError as error:
                        assert f"a.{extension}" in str(error)  # noqa: PT017


def test_landmarks_outside_their_image_are_named():
    inside = np.array([[0.0, 0.0], [99.4, 49.4], [np.nan, np.nan]])
    check_inside(inside, (100, 50))
    check_inside([[-3, 10], [10, 10], [20, 20]], (100, 50))  # a face cut by the edge
    check_inside([[np.nan, np.nan]], (100, 50))
    with pytest.raises(ValueError, match=r"landmarks of image 7: got 1 of 3 .* landmark 2 at \(1050, 3\)"):
        check_inside([[1, 1], [2, 2], [1050, 3]], (100, 50), index=7)
    with pytest.raises(ValueError, match=r"shapes: got 2 of 2 outside .*landmarks\[..., ::-1\]"):
        check_inside([[10, 80], [20, 90]], (100, 50), name="shapes")
    with pytest.raises(ValueError, match=r"landmark 0 at \(-200, 1\)"):
        check_inside([[-200, 1], [2, 2], [3, 3], [4, 4]], (100, 50))
    check_boxes_inside(np.zeros((0, 4)), (100, 50))
    check_boxes_inside([-20, -20, 3, 3], (100, 50))
    with pytest.raises(ValueError, match=r"boxes: got \[0, 60, 10, 70\] at index 1, outside its image of 100 x 50"):
        check_boxes_inside([[0, 0, 1, 1], [0, 60, 10, 70]], (100, 50))


def test_search_and_networks_see_the_same_picture(tmp_path):
    from shape_models.search._images import read_image as searched

    path = tmp_path / "phone.jpg"
    stored = Image.fromarray(np.kron(COLOUR, np.ones((4, 4, 1), np.uint8)))
    exif = stored.getexif()
    exif[0x0112] = 6
    stored.save(path, exif=exif, quality=95)
    upright = read_image(path)
    assert upright.shape == (92, 68, 3)
    np.testing.assert_array_equal(searched(path), upright)
    pytest.importorskip("torch")
    from asmnet.data import load_image
    from asmnet.predictor import as_rgb

    for image in (load_image(path), as_rgb(path), as_rgb(upright)):
        np.testing.assert_array_equal(image, upright)
