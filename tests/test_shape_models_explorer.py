"""The explorer page computes what the library computes: in a real browser, and its numerics alone in node."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from shape_models import ASM, AlignedASM, ShapeBasis, generalized_procrustes, load_model, make_faces
from shape_models._limits import Box, Ellipsoid, SoftBox
from shape_models.explorer import write_explorer

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NODE = shutil.which("node")
browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: the page is not opened")
node = pytest.mark.skipif(NODE is None, reason="no node on this machine: the page's numerics are not run")

CATCH = """<script>
window.problems = [];
window.addEventListener('error', e => problems.push(String(e.message)));
for (const level of ['error', 'warn']) console[level] = (...a) => problems.push(a.join(' '));
</script>"""


def faces_basis(limit=3.0, dims=2, n_components=6):
    shapes = make_faces(60, rng=0)
    if dims == 3:
        depth = -0.002 * ((shapes - shapes.mean(axis=1, keepdims=True)) ** 2).sum(axis=-1, keepdims=True)
        shapes = np.concatenate([shapes, depth], axis=-1)
    return ASM(n_components, limit=limit).fit(generalized_procrustes(shapes).aligned).basis_


def in_browser(tmp_path, model, scenario, *, size=(1100, 800), **options):
    """Open the page, run the scenario (JavaScript that returns a value), and return what it returned."""
    page = write_explorer(model, tmp_path / "page.html", scheme="ibug68", **options)
    text = page.read_text(encoding="utf-8").replace("<head>", "<head>" + CATCH, 1)
    script = (
        "<script>window.addEventListener('load', async () => { let value = null;"
        f"try {{ value = await (async () => {{ {scenario} }})(); }} catch (e) {{ problems.push(String(e)); }}"
        "const out = document.createElement('pre'); out.id = 'result';"
        "out.textContent = JSON.stringify({value, problems}); document.body.appendChild(out); });</script>"
    )
    page.write_text(text.replace("</body>", script + "</body>"), encoding="utf-8")
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-quic",
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--window-size={size[0]},{size[1]}",
        "--virtual-time-budget=8000",
        "--dump-dom",
        page.as_uri(),
    ]
    out = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    found = re.search(r'<pre id="result">(.*?)</pre>', out.stdout, re.DOTALL)
    assert found, f"the page did not finish: {out.stderr[-2000:]}"
    result = json.loads(html.unescape(found[1]))
    assert result["problems"] == []
    return result["value"]


def in_node(tmp_path, model, expression):
    """Run the page's numerics alone: `expression` sees `f`, the functions, and `model`, the numbers."""
    text = write_explorer(model, tmp_path / "page.html").read_text(encoding="utf-8")
    numerics = re.search(r'<script id="numerics">(.*?)</script>', text, re.DOTALL)[1]
    numbers = re.search(r'<script type="application/json" id="model">(.*?)</script>', text, re.DOTALL)[1]
    code = f"{numerics}\nconst model = {numbers}, f = shapeNumerics(model);\nconsole.log(JSON.stringify({expression}));"
    file = tmp_path / "numerics.js"
    file.write_text(code, encoding="utf-8")
    out = subprocess.run([NODE, str(file)], capture_output=True, text=True, timeout=600, check=False)
    assert out.returncode == 0, out.stderr
    return json.loads(out.stdout)


@node
@pytest.mark.parametrize("limit", [Box(2.0), Ellipsoid(2.5), SoftBox(3.0), None], ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("dims", [2, 3])
def test_numerics_are_those_of_the_library(tmp_path, rng, limit, dims):
    basis = faces_basis(limit, dims)
    b = rng.normal(size=basis.n_components) * 4 * np.sqrt(basis.variances)
    shape = basis.mean + 0.05 * rng.normal(size=basis.event_shape)
    seen = [3, 30, 57]
    got = in_node(
        tmp_path,
        basis,
        f"{{clip: f.clip({b.tolist()}), decode: f.decode({b.tolist()}), "
        f"seen: f.encodeSeen({shape.ravel().tolist()}, {seen})}}",
    )
    np.testing.assert_allclose(got["clip"], basis.clip(b), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got["decode"], basis.decode(b).ravel(), rtol=1e-9, atol=1e-12)
    weights = np.isin(np.arange(68), seen).astype(float)
    np.testing.assert_allclose(got["seen"], basis.encode(shape, confidence=weights), rtol=1e-6, atol=1e-9)


@browser
def test_page_loads_and_a_slider_moves_the_points(tmp_path):
    basis = faces_basis()
    value = in_browser(
        tmp_path,
        basis,
        "const i = document.getElementById('mode1'); i.value = 1.5; i.dispatchEvent(new Event('input'));"
        "const s = explorer.state();"
        "const circle = document.querySelectorAll('#stage circle')[30];"
        "return {...s, cx: Number(circle.getAttribute('cx')), n: document.querySelectorAll('.mode').length,"
        " wide: document.documentElement.scrollWidth <= innerWidth};",
    )
    b = np.zeros(basis.n_components)
    b[1] = 1.5 * np.sqrt(basis.variances[1])
    expected = basis.decode(b)
    np.testing.assert_allclose(np.reshape(value["shape"], (68, 2)), expected, atol=1e-9)
    assert value["cx"] == pytest.approx(expected[30, 0] - basis.mean[:, 0].mean(), abs=1e-6)
    assert value["n"] == basis.n_components
    assert value["wide"]


@browser
def test_dragging_follows_the_library_and_keeps_the_limit(tmp_path):
    basis = faces_basis(limit=1.0)
    value = in_browser(
        tmp_path,
        basis,
        "const stage = document.getElementById('stage'), circle = document.querySelectorAll('#stage circle')[8];"
        "const box = circle.getBoundingClientRect();"
        "const fire = (type, dx, dy) => stage.dispatchEvent(new PointerEvent(type, {pointerId: 1, bubbles: true,"
        " clientX: box.x + box.width / 2 + dx, clientY: box.y + box.height / 2 + dy}));"
        "stage.setPointerCapture = () => {};"
        "fire('pointerdown', 0, 0); fire('pointermove', 4, 6); const small = explorer.state();"
        "fire('pointermove', 300, 300); fire('pointerup', 300, 300);"
        "const inverse = stage.getScreenCTM().inverse();"
        "return {small, large: explorer.state(), unit: inverse.a};",
    )
    assert value["small"]["chosen"] == 8
    target = basis.mean.copy()
    target[8] += np.array([4.0, 6.0]) * value["unit"]
    weights = (np.arange(68) == 8).astype(float)
    np.testing.assert_allclose(
        value["small"]["b"], basis.clip(basis.encode(target, confidence=weights)), rtol=1e-4, atol=1e-7
    )
    sd = np.sqrt(basis.variances)
    assert (np.abs(value["large"]["b"]) <= sd * (1 + 1e-9)).all()
    assert np.abs(np.array(value["large"]["b"]) / sd).max() == pytest.approx(1.0)


@browser
def test_keyboard_reset_play_and_limit(tmp_path):
    value = in_browser(
        tmp_path,
        faces_basis(),
        "const stage = document.getElementById('stage');"
        "const options = {bubbles: true, cancelable: true};"
        "const key = (node, key) => node.dispatchEvent(new KeyboardEvent('keydown', {key, ...options}));"
        "key(stage, ']'); key(stage, ']'); key(stage, 'ArrowRight'); const moved = explorer.state();"
        "document.getElementById('reset').click(); const reset = explorer.state();"
        "const slider = document.getElementById('mode0'); slider.focus(); key(slider, 'PageUp');"
        "const up = explorer.state();"
        "slider.value = 4; slider.dispatchEvent(new Event('input')); const held = explorer.state();"
        "document.getElementById('limited').click();"
        "slider.value = 4; slider.dispatchEvent(new Event('input')); const free = explorer.state();"
        "document.getElementById('play').click(); await new Promise(r => setTimeout(r, 400));"
        "const playing = document.getElementById('play').getAttribute('aria-pressed');"
        "document.getElementById('play').click();"
        "return {moved, reset, up, held, free, playing, stopped: document.getElementById('play').textContent};",
    )
    sd = np.sqrt(faces_basis().variances)
    assert value["moved"]["chosen"] == 1
    assert np.abs(value["moved"]["b"]).max() > 0
    assert value["reset"]["b"] == [0.0] * 6
    assert value["up"]["b"][0] == pytest.approx(sd[0])
    assert value["held"]["b"][0] == pytest.approx(3 * sd[0])
    assert value["free"]["b"][0] == pytest.approx(4 * sd[0])
    assert value["playing"] == "true"
    assert value["stopped"] == "Play"


@browser
def test_three_dimensions_turn(tmp_path):
    value = in_browser(
        tmp_path,
        faces_basis(dims=3),
        "const stage = document.getElementById('stage'), circle = document.querySelectorAll('#stage circle')[0];"
        "const before = circle.getAttribute('cx');"
        "stage.dispatchEvent(new KeyboardEvent('keydown', {key: 'd', bubbles: true}));"
        "return {...explorer.state(), moved: before !== circle.getAttribute('cx')};",
    )
    assert value["view"]["yaw"] == pytest.approx(0.1)
    assert value["moved"]
    np.testing.assert_allclose(np.reshape(value["shape"], (68, 3)), faces_basis(dims=3).mean, atol=1e-12)


POINTER = (
    "const stage = document.getElementById('stage'); stage.setPointerCapture = () => {};"
    "const at = k => { const r = document.querySelectorAll('#stage circle')[k].getBoundingClientRect();"
    " return [r.x + r.width / 2, r.y + r.height / 2]; };"
    "const fire = (type, [x, y], pointerType = 'mouse') => stage.dispatchEvent(new PointerEvent(type,"
    " {pointerId: 1, bubbles: true, pointerType, clientX: x, clientY: y}));"
    "const plus = ([x, y], dx, dy) => [x + dx, y + dy];"
)


@browser
def test_a_drag_adds_to_the_shape_that_is_there(tmp_path):
    """The modes before the drag stay: a landmark moved by nothing moves nothing, and a move adds its own change."""
    basis = faces_basis()
    value = in_browser(
        tmp_path,
        basis,
        POINTER + "for (const [i, v] of [[0, 1.5], [3, -1]]) {"
        " const slider = document.getElementById('mode' + i); slider.value = v;"
        " slider.dispatchEvent(new Event('input')); }"
        "const before = explorer.state(), chin = at(8);"
        "fire('pointerdown', chin); fire('pointermove', chin); const still = explorer.state();"
        "fire('pointermove', plus(chin, 3, 5)); const moved = explorer.state();"
        "return {before, still, moved, unit: stage.getScreenCTM().inverse().a};",
    )
    np.testing.assert_allclose(value["still"]["b"], value["before"]["b"], rtol=0, atol=1e-12)
    target = basis.mean.copy()
    target[8] += np.array([3.0, 5.0]) * value["unit"]
    step = basis.encode(target, confidence=(np.arange(68) == 8).astype(float))
    np.testing.assert_allclose(value["moved"]["b"], basis.clip(value["before"]["b"] + step), rtol=1e-4, atol=1e-7)


@browser
@pytest.mark.parametrize("y_up", [False, True])
def test_what_is_near_follows_the_hand_that_turns(tmp_path, y_up):
    """x right, y down, z away or x right, y up, z towards the viewer: both right-handed, one sense of turning."""
    basis = faces_basis(dims=3)
    mean = basis.mean * [1, -1, -1] if y_up else basis.mean
    basis = ShapeBasis(mean, basis.components, basis.variances)
    value = in_browser(
        tmp_path,
        basis,
        POINTER + "const near = [...Array(68).keys()].reduce((a, k) => explorer.model.mean[3 * k + 2]"
        f" * {-1 if y_up else 1} < explorer.model.mean[3 * a + 2] * {-1 if y_up else 1} ? k : a, 0);"
        "const far = [...Array(68).keys()].reduce((a, k) => explorer.model.mean[3 * k + 2]"
        f" * {-1 if y_up else 1} > explorer.model.mean[3 * a + 2] * {-1 if y_up else 1} ? k : a, 0);"
        "const box = stage.getBoundingClientRect(), corner = [box.x + 12, box.y + 12];"
        "const before = [at(near), at(far)];"
        "fire('pointerdown', corner); fire('pointermove', plus(corner, 60, 40)); fire('pointerup', corner);"
        "const circles = document.querySelectorAll('#stage circle');"
        "return {before, after: [at(near), at(far)], sizes: [near, far].map(k => Number(circles[k].getAttribute('r'))),"
        " z: [near, far].map(k => explorer.model.mean[3 * k + 2])};",
        y_up=y_up,
    )
    assert (value["z"][0] > value["z"][1]) == y_up
    near, far = np.array(value["after"]) - np.array(value["before"])
    assert near[0] > far[0]
    assert near[1] > far[1]
    assert value["sizes"][0] > value["sizes"][1]


@browser
@pytest.mark.parametrize("y_up", [False, True])
def test_a_landmark_of_a_turned_shape_follows_the_pointer(tmp_path, y_up):
    value = in_browser(
        tmp_path,
        faces_basis(dims=3, limit=None, n_components=55),
        POINTER + "for (const key of ['d', 'd', 'd', 's', 's'])"
        " stage.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));"
        "const before = at(8); fire('pointerdown', before); fire('pointermove', plus(before, 4, -7));"
        "return {before, after: at(8), chosen: explorer.state().chosen};",
        y_up=y_up,
    )
    assert value["chosen"] == 8
    np.testing.assert_allclose(np.subtract(value["after"], value["before"]), [4, -7], rtol=0, atol=0.7)


@browser
def test_every_mode_at_its_limit_is_in_the_picture(tmp_path):
    value = in_browser(
        tmp_path,
        load_model("face68"),
        POINTER + "const box = stage.getBoundingClientRect(), out = [];"
        "for (let i = 0; i < 12; i++) for (const v of [-3, 3]) {"
        " const slider = document.getElementById('mode' + i); document.getElementById('reset').click();"
        " slider.value = v; slider.dispatchEvent(new Event('input'));"
        " for (let k = 0; k < 68; k++) { const [x, y] = at(k);"
        " if (x < box.left || x > box.right || y < box.top || y > box.bottom) out.push([i, v, k]); } }"
        "return out;",
        size=(500, 900),
    )
    assert value == []


@browser
def test_page_fits_a_phone(tmp_path):
    value = in_browser(
        tmp_path,
        faces_basis(),
        POINTER + "const finger = plus(at(8), 0, 12); fire('pointerdown', finger, 'touch');"
        "const touched = explorer.state().chosen; fire('pointerup', finger, 'touch');"
        "document.querySelector('.mode:last-child').scrollIntoView(); await new Promise(r => setTimeout(r, 50));"
        "const box = stage.getBoundingClientRect();"
        "return {scroll: document.documentElement.scrollWidth, inner: innerWidth, touched, top: box.top,"
        " slider: document.querySelector('.mode:last-child').getBoundingClientRect().bottom, height: innerHeight,"
        " low: Math.min(...[...document.querySelectorAll('button')].map(b => b.getBoundingClientRect().height))};",
        size=(500, 560),
        n_modes=6,
    )
    assert value["scroll"] <= value["inner"]
    assert value["low"] >= 40
    assert value["touched"] == 8
    assert value["top"] >= 0  # the shape stays in sight beside the last slider
    assert value["slider"] <= value["height"]


def test_titles_cannot_break_the_page(tmp_path):
    page = write_explorer(faces_basis(), tmp_path / "page.html", title="</script><script>alert(1)</script>")
    text = page.read_text(encoding="utf-8")
    assert "<script>alert(1)" not in text
    assert len(re.findall(r"</script>", text)) == 3


def test_aligned_models_and_their_scheme_are_taken(tmp_path):
    model = AlignedASM(ASM(4), scheme="ibug68").fit(make_faces(40, rng=1))
    text = write_explorer(model, tmp_path / "page.html").read_text(encoding="utf-8")
    numbers = json.loads(re.search(r'id="model">(.*?)</script>', text, re.DOTALL)[1])
    assert len(numbers["edges"]) > 40
    assert numbers["dims"] == 2


def test_the_shape_model_of_a_search_is_taken(tmp_path):
    text = write_explorer(load_model("search68"), tmp_path / "page.html").read_text(encoding="utf-8")
    numbers = json.loads(re.search(r'id="model">(.*?)</script>', text, re.DOTALL)[1])
    assert len(numbers["mean"]) == 2 * 68
    assert len(numbers["edges"]) > 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edges": [(0, 68)]}, "outside 0 to 67"),
        ({"scheme": "wflw98"}, "got 68 landmarks; expected 98"),
        ({"n_modes": 0}, "at least 1"),
    ],
)
def test_bad_options_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        write_explorer(faces_basis(), tmp_path / "page.html", **options)
    assert not (tmp_path / "page.html").exists()


def test_other_models_are_refused(tmp_path):
    with pytest.raises(TypeError, match="expected a ShapeBasis"):
        write_explorer(object(), tmp_path / "page.html")
    flat = ShapeBasis(np.zeros(4), np.eye(4)[:2], np.ones(2))
    with pytest.raises(ValueError, match="n_landmarks, 2"):
        write_explorer(flat, tmp_path / "page.html")
