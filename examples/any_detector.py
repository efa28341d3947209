"""Make any landmark detector behave: its landmarks, the image and a shape model together.

The landmarks are those that dlib (its 68-point predictor) and MediaPipe (its mesh of 478 points) really found in an
image, in the same image with the mouth covered, and in a blurred and noisy one; `any_detector.npz` beside this file
holds them. dlib's own detector found no face under the cover, so its predictor got the box of the plain image. One call
of `refine` converts the landmarks to 68, measures how well the image supports each of them, searches the image from
there, and estimates unsupported landmarks from the others by the shape model.

Look at the dots: their colour shows how well the image supports each landmark, and the ellipses show how large its
error may be. What `refine` cannot do: where the image shows nothing, the result is what the rest of the face makes
likely, not what is there. A detector that is more accurate than the search (dlib on clear frontal faces) is not
improved, and two faces in one box, or a box on something else, are not corrected. Note that MediaPipe's mistakes under
a cover form a face, too, so that a shape model alone could not see them.
"""

from pathlib import Path

import numpy as np
from _common import astronaut
from matplotlib import pyplot as plt
from matplotlib.patches import Ellipse
from scipy.ndimage import gaussian_filter

from shape_models import convert, load_model
from shape_models.search import refine


def pictures():
    """Return the image as the detectors saw it, three times."""
    face, _ = astronaut()
    covered = face.copy()
    covered[105:172, 60:150] = 127
    blurred = gaussian_filter(face.astype(float), (3, 3, 0)) + np.random.default_rng(0).normal(
        scale=18, size=face.shape
    )
    return {"plain": face, "covered": covered, "blurred": np.clip(blurred, 0, 255).astype(np.uint8)}


def from_dlib(points):
    """Pixels already, of the first pixel 0."""
    return points.astype(float), "ibug68"


def from_mediapipe(points, width, height):
    """From fractions of the image, measured from its corner."""
    return points * [width, height] - 0.5, "mediapipe478"


_, truth = astronaut()
eyes = np.linalg.norm(truth[45] - truth[36])
images = pictures()
stored = np.load(Path(__file__).with_suffix(".npz"))
model = load_model("face68")


def error(points):
    return 100 * np.linalg.norm(points - truth, axis=1).mean() / eyes


figure, axes = plt.subplots(2, 6, figsize=(18, 6.4), layout="constrained")
print("mean distance from landmarks placed by eye, % of the eye distance")
print("detector   picture    as it is   projected   refined   kept searched carried   plausible")
for row, detector in zip(axes, ("dlib", "mediapipe"), strict=True):
    for k, (name, image) in enumerate(images.items()):
        height, width = image.shape[:2]
        numbers = stored[f"{detector}_{name}"]
        points, scheme = from_dlib(numbers) if detector == "dlib" else from_mediapipe(numbers, width, height)
        result = refine(image, points, scheme=scheme)  # the one line
        before = points if scheme == "ibug68" else convert(points, scheme, "ibug68").shapes
        counts = [int((result.reason == reason).sum()) for reason in ("kept", "searched", "carried")]
        print(
            f"{detector:10s} {name:10s} {error(before):7.1f} {error(model.project(before)):11.1f} "
            f"{error(result.points):10.1f} {counts[0]:6d} {counts[1]:8d} {counts[2]:7d} {result.plausibility:11.2f}"
        )
        for ax, shape, colors, title in (
            (row[2 * k], before, np.full(68, 0.25), f"{detector}, {name}: {error(before):.1f} %"),
            (row[2 * k + 1], result.points, result.confidence, f"refined: {error(result.points):.1f} %"),
        ):
            ax.imshow(image)
            ax.scatter(*shape.T, c=colors, s=13, cmap="RdYlGn", vmin=0, vmax=1, edgecolors="0.2", linewidths=0.3)
            ax.set(xlim=(40, 165), ylim=(175, 45), title=title)
            ax.set_axis_off()
        for point, covariance in zip(result.points[::4], result.covariance[::4], strict=True):
            values, vectors = np.linalg.eigh(covariance)
            angle = np.degrees(np.arctan2(*vectors[::-1, 1]))
            row[2 * k + 1].add_patch(
                Ellipse(point, *(4 * np.sqrt(values[::-1])), angle=angle, fill=False, color="white", linewidth=0.8)
            )
figure.suptitle("What two detectors answered, and after refine (green: the image shows it, red: carried)", fontsize=16)
figure.savefig("any_detector.png", dpi=110)
print("picture: any_detector.png")
