"""Make any landmark detector behave: bring its output to 68 landmarks, then through the shape model.

Four detectors write in four ways: an array of MediaPipe's 478 points as fractions of the image, an XML file of dlib,
the JSON of COCO-WholeBody with points that were not seen, or 98 points (WFLW). Their outputs are simulated here
on an image, with failures that such detectors have. Look at the lower row: one model and one line repair them all.
What the model cannot see is a failure that is a face, such as a jaw line that follows the hair on one side as a whole.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from _common import astronaut
from matplotlib import pyplot as plt

from shape_models import IBUG68, LandmarkFile, convert, load_model, read_landmarks, write_landmarks
from shape_models.plotting import AFTER, BEFORE, plot_shape


# The adapters: what a detector wrote -> (68, 2) pixels, first pixel centre 0, NaN where a landmark was not seen.
def from_mediapipe(landmarks, width, height):
    """From (478, 2 or 3) fractions of the image, measured from its corner."""
    pixels = np.asarray(landmarks)[:, :2] * [width, height] - 0.5
    return convert(pixels, "mediapipe478", "ibug68").shapes


def from_file(path):
    """From a file of dlib (.xml), COCO-WholeBody (.json), .pts, .csv, ...: its first face."""
    file = read_landmarks(path)
    return (file[0] if isinstance(file, list) else file).points


def from_wflw(landmarks):
    """From (98, 2) pixels."""
    return convert(landmarks, "wflw98", "ibug68").shapes


image, truth = astronaut()
height, width = image.shape[:2]
rng = np.random.default_rng(3)
eyes = np.linalg.norm(truth[45] - truth[36])


def simulated(scheme, n):
    """Return n landmarks that the scheme's conversion takes to the truth."""
    units = np.zeros((n, n, 2))
    units[np.arange(n), np.arange(n), 0] = 1
    return np.linalg.pinv(convert(units, scheme, "ibug68").shapes[..., 0].T) @ truth


found = {}
mesh = (simulated("mediapipe478", 478) + 0.5) / [width, height]
mesh += rng.normal(scale=0.05 * eyes / width, size=mesh.shape)
found["MediaPipe: trembling"] = from_mediapipe(mesh, width, height)

with TemporaryDirectory() as folder:
    lost = truth.copy()
    lost[42:48] += eyes * np.array([0.1, 0.35])
    file = LandmarkFile(lost.round(), image_name="a.jpg", attributes={"box": [60, 60, 150, 160]})
    write_landmarks(Path(folder, "dlib.xml"), file)
    found["dlib: an eye on the cheek"] = from_file(Path(folder, "dlib.xml"))

    seen = np.ones(68)
    seen[[*range(48, 68), *range(5, 12)]] = 0  # a scarf
    keypoints = np.column_stack([truth + rng.normal(scale=0.02 * eyes, size=(68, 2)), seen]).ravel().tolist()
    coco = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"id": 1, "image_id": 1}]}
    coco["annotations"][0] |= {"face_kpts": keypoints, "face_valid": True}
    Path(folder, "coco.json").write_text(json.dumps(coco))
    found["COCO-WholeBody: scarf"] = from_file(Path(folder, "coco.json"))

points = simulated("wflw98", 98)
points[rng.choice(98, 12, replace=False)] += rng.normal(scale=0.5 * eyes, size=(12, 2))
found["98 points: some astray"] = from_wflw(points)

model = load_model("face68").set_params(loss="tukey")  # landmarks far from any face do not count
print("mean error in % of the eye distance   before   after")
figure, axes = plt.subplots(2, 4, figsize=(14, 7.6), layout="constrained")
for column, (name, before) in zip(axes.T, found.items(), strict=True):
    after = model.project(before)  # the one line
    errors = [100 * np.nanmean(np.linalg.norm(shape - truth, axis=1)) / eyes for shape in (before, after)]
    print(f"{name:36s} {errors[0]:6.1f} % {errors[1]:6.1f} %")
    hidden = np.isnan(before[:, 0]).sum()
    titles = [
        f"{name}\n{errors[0]:.1f} % off" + (f", {hidden} missing" if hidden else ""),
        f"after: {errors[1]:.1f} % off" + (", none missing" if hidden else ""),
    ]
    for ax, shape, title, color in zip(column, (before, after), titles, (BEFORE, AFTER), strict=True):
        plot_shape(shape, ax, scheme=IBUG68, image=image, color=color, size=6)
        ax.set_title(title, fontsize=12)
        ax.set(xlim=(25, 185), ylim=(180, 35))
        ax.set_axis_off()
figure.suptitle("One shape model repairs the output of any landmark detector", fontsize=17)
figure.savefig("any_detector.png", dpi=120)
print("picture: any_detector.png")
