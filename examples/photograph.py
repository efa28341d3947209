"""From an image to landmarks: also head pose, plausibility, and what the model makes of a spoilt prediction."""

import sys
from pathlib import Path

import numpy as np
import skimage.data
from matplotlib.figure import Figure

from asmnet import Predictor
from pose import conventions
from shape_models import IBUG68, load_model

photograph = skimage.data.astronaut()
face = Predictor.from_pretrained("asmnet-68")(photograph, flip_average=True)[0]
print(f"yaw {face.yaw:.0f}, pitch {face.pitch:.0f}, roll {face.roll:.0f} degrees ({face.pose_convention}),", end=" ")
print(f"plausibility {face.plausibility:.2f}, modes beyond the limit: {list(face.clipped_modes) or 'none'}")

spoilt = face.landmarks.copy()
spoilt[[8, 30, 54]] += [[-14.0, 22.0], [16.0, -4.0], [20.0, 10.0]]  # a chin, a nose and a mouth that slipped
repaired = load_model("face68").set_params(loss="tukey").project(spoilt)  # few landmarks are far off

figure = Figure(figsize=(12, 4.4), layout="constrained")
panels = figure.subplots(1, 3)
titles = ("landmarks and head pose", "three landmarks slipped", "after the shape model")
for axes, points, title in zip(panels, (face.landmarks, spoilt, repaired), titles, strict=True):
    axes.imshow(photograph)
    for first, second in IBUG68.edges:
        axes.plot(*points[[first, second]].T, color="#30e030", linewidth=1)
    low, high = face.landmarks.min(0), face.landmarks.max(0)
    axes.set(xlim=(low[0] - 40, high[0] + 40), ylim=(high[1] + 40, low[1] - 60), title=title)
    axes.set_axis_off()
head = conventions.read(np.deg2rad([face.pitch, face.yaw, face.roll]), face.pose_convention).as_matrix()
nose, length = face.landmarks[30], 0.5 * np.ptp(face.landmarks[:, 0])
for axis, colour in ((head[:, 0], "#ff4040"), (head[:, 1], "#ffd030"), (-head[:, 2], "#4080ff")):
    panels[0].annotate("", nose + length * axis[:2], nose, arrowprops={"arrowstyle": "->", "color": colour, "lw": 2})
out = Path(sys.argv[1] if len(sys.argv) > 1 else "out")
out.mkdir(exist_ok=True)
figure.savefig(out / "photograph.png", dpi=110)
print(out / "photograph.png")
