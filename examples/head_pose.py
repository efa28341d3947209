"""Head pose from landmarks: the same head in the words of eleven programs and data sets.

Which order, which sign, which unit, which frame: three angles say nothing without all four. `estimate_head_pose`
finds the rotation once; `conventions.write` then says it in each convention. Look at the red heads: the three numbers
that one program wrote, read as if another had written them, are another head.
"""

import numpy as np
from _common import astronaut
from matplotlib import pyplot as plt

from pose import Camera, FaceModel3D, Pose, conventions, estimate_head_pose, project_points
from shape_models import IBUG68
from shape_models.plotting import AFTER, BEFORE, plot_shape

head = FaceModel3D.bundled().basis.mean  # 68 points in millimetres
image, landmarks = astronaut()


def draw(ax, pose, camera, color):
    """Draw the mean head, and an arrow along its line of sight."""
    start, end = project_points(np.array([head[30], head[30] + [0, 0, -90]]), pose, camera)
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": color, "linewidth": 2.5})
    plot_shape(project_points(head, pose, camera), ax, scheme=IBUG68, color=color, size=3)
    ax.set_axis_off()


# 1. From landmarks to a pose. The focal length is a guess, and pitch depends on it: a portrait is taken from afar.
print("the astronaut, for two focal lengths:")
for focal in (512, 1500):
    camera = Camera(focal, (255.5 - 120, 255.5 - 20))  # the image is 512 wide, its crop starts at (120, 20)
    fit = estimate_head_pose(landmarks, camera)
    print(f"  {focal:5d} pixels: {fit.angles('300W-LP')}, {fit.pose.translation[2] / 1000:.1f} m away")

figure = plt.figure(figsize=(15, 7.4), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1, 1.45])
photograph, table = left.subplots(2, 1, height_ratios=[1, 1.05])
photograph.imshow(image)
draw(photograph, fit.pose, camera, AFTER)
photograph.set_title(f"from 68 landmarks:\n{fit.angles('300W-LP')}", fontsize=12)

# 2. One rotation in every convention.
numbers = np.array([10.0, -30.0, 20.0])
rotation = conventions.read(numbers, "6DRepNet")
lines = []
for name, convention in conventions.CONVENTIONS.items():
    values = conventions.write(rotation, name)
    text = "3 x 3" if values.ndim == 2 else "  ".join(f"{value:7.2f}" for value in values)
    lines.append(f"{name:13s}{', '.join(convention.values):18s}{text:28s}{convention.unit.replace('matrix', '')}")
print("one head, in each convention:", *lines, sep="\n  ")
table.text(0, 1, "\n".join(lines), family="monospace", fontsize=9.5, va="top", linespacing=1.55)
table.set_title("the head in green on the right, as each convention writes it", fontsize=12, loc="left")
table.set_axis_off()

# 3. The numbers of one convention, read in others (degrees turned into their unit).
camera = Camera(1500, (0, 0))
print("10, -30, 20 of 6DRepNet, read as if they came from:")
others = ["6DRepNet", "HopeNet", "BIWI", "3DDFA", "OpenFace", "OpenCV-RQ"]
for ax, name in zip(right.subplots(2, 3).flat, others, strict=True):
    unit = np.pi / 180 if conventions.get(name).unit == "radians" else 1
    read = conventions.read(numbers * unit, name)
    off = np.degrees((read * rotation.inv()).magnitude())
    print(f"  {name:13s} {off:5.1f} degrees away")
    draw(ax, Pose(read, [0, 0, 1000]), camera, AFTER if off < 0.1 else BEFORE)
    ax.set(xlim=(-190, 170), ylim=(190, -120))
    order = "the right one" if off < 0.1 else f"off by {off:.0f} degrees"
    ax.set_title(f"read as {name}:\n{order}", fontsize=12)
right.suptitle("the numbers (10, -30, 20) that 6DRepNet wrote, read in six conventions", fontsize=12)
figure.suptitle("Three numbers are no head pose until the convention is named", fontsize=17)
figure.savefig("head_pose.png", dpi=120)
print("picture: head_pose.png")
