"""PnP beside OpenCV and PoseLib: accuracy, speed, hard cases, real faces.

    PYTHONPATH=. python tests/benchmarks/bench_pose.py                 everything
    PYTHONPATH=. python tests/benchmarks/bench_pose.py speed planar    some parts

All draws are seeded. The object of the first parts is the reference head (68 points, millimetres), the camera has a
focal length of 640 pixels and its centre at (319.5, 239.5), the head is 500 to 900 mm away. Times of different
libraries are taken in turns within one process; ratios mean something, microseconds depend on the machine. Real faces
need the folder named by SHAPE_MODELS_DATA.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import poselib
from scipy.spatial.transform import Rotation

from pose import Camera, FaceModel3D, Pose, conventions, estimate_head_pose, project_points, solve_pnp, solve_pnp_ransac
from pose.reference import HEAD_IBUG68

CAMERA = Camera.from_image_size((640, 480))
K = CAMERA.matrix
MODEL = {"model": "PINHOLE", "width": 640, "height": 480, "params": [640.0, 640.0, 319.5, 239.5]}
HEAD = np.array(HEAD_IBUG68)


def head_views(b, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    angles = np.c_[rng.uniform(-60, 60, b), rng.uniform(-30, 30, b), rng.uniform(-30, 30, b)]
    place = np.c_[rng.uniform(-80, 80, b), rng.uniform(-60, 60, b), rng.uniform(500, 900, b)]
    pose = Pose(conventions.read(angles, "HopeNet"), place)
    return pose, project_points(HEAD, pose, CAMERA) + noise * rng.normal(size=(b, 68, 2))


def by_opencv(points, pixels, flag, refine=False):
    """Return the rotation vector, or NaN where OpenCV gives up."""
    try:
        ok, rvec, tvec = cv2.solvePnP(points, pixels, K, None, flags=flag)
        if ok and refine:
            rvec, tvec = cv2.solvePnPRefineLM(points, pixels, K, None, rvec, tvec)
    except cv2.error:
        return np.full(3, np.nan)
    return rvec[:, 0] if ok else np.full(3, np.nan)


def by_poselib(points, pixels, **options):
    pose, _ = poselib.estimate_absolute_pose(pixels, points, MODEL, options, {"loss_type": "TRIVIAL"})
    return Rotation.from_matrix(pose.R).as_rotvec() if np.isfinite(pose.R).all() else np.full(3, np.nan)


def errors(rotvecs, truth):
    """Degrees between rotations; 180 where there is no answer."""
    rotvecs = np.asarray(rotvecs)
    bad = ~np.isfinite(rotvecs).all(axis=1)
    found = Rotation.from_rotvec(np.where(bad[:, None], 0.0, rotvecs))
    return np.where(bad, 180.0, np.degrees((found * truth.inv()).magnitude()))


def ours(result):
    return np.where(result.converged[:, None], result.pose.rotation.as_rotvec(), np.nan)


def seconds(function, repeat=5):
    """Median time of a call."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def first_call():
    """Time of the first solve in a fresh process without a compilation cache, and of the next process with it."""
    print("## First call")
    code = (
        "import time, numpy as np; from pose import *; start = time.perf_counter();"
        "x = np.random.default_rng(0).normal(size=(8, 3)); c = Camera.from_image_size(640);"
        "solve_pnp(x, project_points(x, Pose.identity([0, 0, 9]), c), c);"
        "print(f'{time.perf_counter() - start:.1f} s, {time.process_time():.1f} s of processor time in all')"
    )
    with tempfile.TemporaryDirectory() as folder:
        for label in ("compiling", "cached"):
            out = subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, "NUMBA_CACHE_DIR": folder},
                capture_output=True,
                text=True,
                check=True,
            )
            print(f"{label}: {out.stdout.strip()}")


def accuracy():
    print("\n## 68 points, 1 px noise, yaw up to 60 degrees, 10 000 draws: rotation error in degrees")
    pose, pixels = head_views(10_000)
    rows = {"pose.solve_pnp": errors(ours(solve_pnp(HEAD, pixels, CAMERA)), pose.rotation)}
    for name, flag, refine in (
        ("cv2 SQPNP", cv2.SOLVEPNP_SQPNP, False),
        ("cv2 SQPNP + RefineLM", cv2.SOLVEPNP_SQPNP, True),
        ("cv2 EPNP", cv2.SOLVEPNP_EPNP, False),
        ("cv2 ITERATIVE", cv2.SOLVEPNP_ITERATIVE, False),
    ):
        rows[name] = errors([by_opencv(HEAD, p, flag, refine) for p in pixels], pose.rotation)
    print("| solver | median | p95 |\n|---|---|---|")
    for name, error in rows.items():
        print(f"| {name} | {np.median(error):.4f} | {np.percentile(error, 95):.4f} |")


def speed():
    print("\n## Speed: 10 000 views of the head; microseconds a pose, medians of 5 interleaved runs. Processor time is")
    print("what all threads used together; on idle cores the time of the batch is that over their number")
    _, pixels = head_views(10_000)
    solve_pnp(HEAD, pixels[:100], CAMERA)
    some = pixels[:500]
    calls = {
        "solve_pnp, batch": (10_000, lambda: solve_pnp(HEAD, pixels, CAMERA)),
        "cv2 SQPNP, loop": (500, lambda: [by_opencv(HEAD, p, cv2.SOLVEPNP_SQPNP) for p in some]),
        "cv2 SQPNP + RefineLM, loop": (500, lambda: [by_opencv(HEAD, p, cv2.SOLVEPNP_SQPNP, True) for p in some]),
        "solve_pnp, loop": (500, lambda: [solve_pnp(HEAD, p, CAMERA) for p in some]),
        "poselib, loop": (100, lambda: [by_poselib(HEAD, p) for p in pixels[:100]]),
    }
    times = {name: [] for name in calls}
    for _ in range(5):
        for name, (count, run) in calls.items():
            wall, processor = time.perf_counter(), time.process_time()
            run()
            times[name].append((time.perf_counter() - wall, time.process_time() - processor))
            times[name][-1] = [t / count * 1e6 for t in times[name][-1]]
    t = {name: np.median(values, axis=0) for name, values in times.items()}
    wall, processor = t["solve_pnp, batch"]
    print("| call | time | processor time | times the batch: time | processor time |\n|---|---|---|---|---|")
    for name, (a, b) in t.items():
        print(f"| {name} | {a:.1f} | {b:.1f} | {a / wall:.1f} | {b / processor:.1f} |")
    one, other = t["solve_pnp, loop"], t["cv2 SQPNP + RefineLM, loop"]
    print(f"one problem over cv2 SQPNP + RefineLM: {one[0] / other[0]:.2f} in time, {one[1] / other[1]:.2f} processor")


def planar():
    print("\n## Planar target: 16 points on a square of 2, focal 640, distance 5 to 12, 1 px noise, 2000 draws")
    rng = np.random.default_rng(1)
    b = 2000
    points = np.c_[rng.uniform(-1, 1, (16, 2)), np.zeros(16)]
    tilt = rng.uniform(10, 70, b)
    turn = Rotation.from_euler("ZXZ", np.c_[rng.uniform(0, 360, b), tilt, rng.uniform(0, 360, b)], degrees=True)
    pose = Pose(turn, np.c_[rng.uniform(-1, 1, (b, 2)), rng.uniform(5, 12, b)])
    pixels = project_points(points, pose, CAMERA) + rng.normal(size=(b, 16, 2))
    result = solve_pnp(points, pixels, CAMERA)
    rows = {"pose.solve_pnp": errors(ours(result), turn)}
    for name, flag, refine in (
        ("cv2 IPPE", cv2.SOLVEPNP_IPPE, False),
        ("cv2 IPPE + RefineLM", cv2.SOLVEPNP_IPPE, True),
        ("cv2 SQPNP + RefineLM", cv2.SOLVEPNP_SQPNP, True),
        ("cv2 ITERATIVE", cv2.SOLVEPNP_ITERATIVE, False),
    ):
        rows[name] = errors([by_opencv(points, p, flag, refine) for p in pixels], turn)
    rows["poselib"] = errors([by_poselib(points, p) for p in pixels], turn)
    second = np.isfinite(result.second_error)
    either = np.minimum(
        rows["pose.solve_pnp"],
        errors(np.where(second[:, None], result.second.rotation.as_rotvec(), np.nan), turn),
    )
    print("| solver | median | share under 2 degrees |\n|---|---|---|")
    for name, error in rows.items():
        print(f"| {name} | {np.median(error):.3f} | {100 * np.mean(error < 2):.2f} % |")
    print(
        f"second pose returned in {100 * second.mean():.1f} %, one of the two under 2 degrees in "
        f"{100 * np.mean(either < 2):.2f} %"
    )


def outliers():
    print("\n## 20 % outliers: 68 points, 1 px noise, 2000 draws; wrong points anywhere in the image")
    pose, pixels = head_views(2000, seed=2)
    rng = np.random.default_rng(3)
    for p in pixels:
        p[rng.choice(68, 14, replace=False)] = rng.uniform([0, 0], [640, 480], (14, 2))
    solve_pnp_ransac(HEAD, pixels[:2], CAMERA)
    rows = {}
    rows["pose.solve_pnp_ransac, batch"] = [lambda: ours(solve_pnp_ransac(HEAD, pixels, CAMERA))]
    rows["pose.solve_pnp_ransac, loop"] = [
        lambda: [solve_pnp_ransac(HEAD, p, CAMERA).pose.rotation.as_rotvec() for p in pixels]
    ]
    rows["cv2 solvePnPRansac"] = [lambda: [cv2.solvePnPRansac(HEAD, p, K, None)[1][:, 0] for p in pixels]]
    rows["poselib"] = [lambda: [by_poselib(HEAD, p) for p in pixels]]
    print("| solver | us a pose | median | share under 2 degrees |\n|---|---|---|---|")
    for name, (run,) in rows.items():
        start = time.perf_counter()
        found = run()
        took = (time.perf_counter() - start) / len(pixels) * 1e6
        error = errors(found, pose.rotation)
        print(f"| {name} | {took:.0f} | {np.median(error):.3f} | {100 * np.mean(error < 2):.2f} % |")


def hard_cases():
    print(
        "\n## Hard cases: random targets of unit size in any rotation, 2000 draws; share under 2 degrees (noise 1 px)"
    )
    print("or under 0.001 degrees (no noise); `flagged` is the fraction of ours that came back as not converged")
    print("| case | noise | solve_pnp | flagged | cv2 SQPNP + RefineLM | poselib |\n|---|---|---|---|---|---|")
    rng = np.random.default_rng(4)
    b = 2000
    for name, n, thickness, near, far in (
        ("4 points", 4, 1.0, 0.3, 6),
        ("5 points", 5, 1.0, 0.3, 6),
        ("4 points in a plane", 4, 0.0, 0.3, 6),
        ("6 points, near-planar (2 %)", 6, 0.02, 0.3, 6),
        ("20 points, near-planar (2 %)", 20, 0.02, 0.3, 6),
        ("20 points, close by", 20, 1.0, 0.2, 1),
        ("20 points, far away", 20, 1.0, 50, 100),
    ):
        points = rng.normal(size=(b, n, 3)) * [1, 1, thickness]
        turn = Rotation.from_rotvec(Rotation.random(b, random_state=int(rng.integers(2**31))).as_rotvec())
        depth = -np.einsum("bj,bnj->bn", turn.as_matrix()[:, 2], points).min(axis=1) + rng.uniform(near, far, b)
        pose = Pose(turn, np.c_[rng.uniform(-0.4, 0.4, (b, 2)) * depth[:, None], depth])
        exact = project_points(points, pose, CAMERA)
        for noise in (0.0, 1.0):
            pixels = exact + noise * rng.normal(size=exact.shape)
            bound = 2 if noise else 1e-3
            result = solve_pnp(points, pixels, CAMERA)
            shares = [
                errors(result.pose.rotation.as_rotvec(), turn),
                errors([by_opencv(o, p, cv2.SOLVEPNP_SQPNP, True) for o, p in zip(points, pixels, strict=True)], turn),
                errors([by_poselib(o, p) for o, p in zip(points[:300], pixels[:300], strict=True)], turn[:300]),
            ]
            mine, opencv, lib = (f"{100 * np.mean(s < bound):.2f} %" for s in shares)
            flagged = f"{100 * np.mean(~result.converged):.2f} %"
            print(f"| {name} | {noise:g} px | {mine} | {flagged} | {opencv} | {lib} |", flush=True)
    # The image of a target behind the camera: the projection through the centre, as if z were positive.
    points = rng.normal(size=(b, 20, 3))
    turn = Rotation.random(b, random_state=5)
    there = np.einsum("bij,bnj->bni", turn.as_matrix(), points) - np.array([0, 0, 6.0])
    pixels = there[..., :2] / there[..., 2:] * 640 + [319.5, 239.5]
    result = solve_pnp(points, pixels, CAMERA)
    front = (result.pose(points)[..., 2] > 0).all(axis=1) | ~np.isfinite(result.reprojection_error)
    accepted = 0
    for o, p in zip(points, pixels, strict=True):
        rvec = by_opencv(o, p, cv2.SOLVEPNP_SQPNP)
        accepted += np.isfinite(rvec).all()
    print(
        f"\n20 points behind the camera: ours accepts {100 * result.converged.mean():.1f} % (all poses returned in "
        f"front: {front.all()}), cv2 SQPNP {100 * accepted / b:.1f} %"
    )


def _bins(yaw, labels):
    cells = []
    for low, high in ((0, 30), (30, 60), (60, 90), (90, 181)):
        chosen = (labels >= low) & (labels < high)
        difference = yaw[chosen] - labels[chosen]
        cells.append(f"{np.median(np.abs(difference)):.1f} ({np.median(difference):+.1f}, n {chosen.sum()})")
    return " | ".join(cells)


def real_faces():
    root = os.environ.get("SHAPE_MODELS_DATA")
    if not root:
        print("\nSHAPE_MODELS_DATA is not set: no real faces")
        return
    data = np.load(Path(root) / "landmarks" / "aflw2000_3d68.npz")
    labels = data["abs_yaw_degrees"].astype(float)[1::2]
    faces = data["shapes"][1::2, :, :2]
    camera = Camera.from_image_size(450)
    model = FaceModel3D.bundled()
    print("\n## AFLW2000-3D, the 500 faces that were no source: |yaw| against the label, median absolute difference in")
    print("degrees (median difference, faces) by label")
    print("| fit | 0 to 30 | 30 to 60 | 60 to 90 | over 90 | median yaw, labels under 2 | reprojection error |")
    print("|---|---|---|---|---|---|---|")
    for name, options in (("rigid", {}), ("deformable", {"model": model})):
        result = estimate_head_pose(faces, camera, **options)
        yaw = np.abs(conventions.write(result.pose.rotation, "HopeNet", beyond_profile=True)[:, 0])
        print(
            f"| {name} | {_bins(yaw, labels)} | {np.median(yaw[labels < 2]):.2f} | "
            f"{np.median(result.reprojection_error):.2f} px |"
        )
    for name, run in (
        ("rigid", lambda: estimate_head_pose(faces, camera)),
        ("deformable", lambda: model.fit(faces, camera)),
    ):
        print(f"{name}: {seconds(run) / len(faces) * 1e6:.0f} us a face")


def histogram():
    """Draw yaw, pitch and roll of the 300-W training faces, as seen by a camera of four times the width of a crop."""
    root = os.environ.get("SHAPE_MODELS_DATA")
    if not root:
        print("\nSHAPE_MODELS_DATA is not set: no real faces")
        return
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from shape_models.datasets import read_300w

    faces = read_300w(Path(root) / "300w", split="train").shapes()
    result = estimate_head_pose(faces, Camera(4 * 384.0, (191.5, 191.5)), model=FaceModel3D.bundled())
    angles = result.angles()
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), sharey=True, layout="constrained")
    for ax, name in zip(axes, ("yaw", "pitch", "roll"), strict=True):
        ax.hist(getattr(angles, name)[result.converged], bins=np.arange(-62, 63, 4), color="tab:blue")
        ax.set(title=name, xlabel="degrees (300W-LP)")
    axes[0].set_ylabel("faces")
    figure.suptitle(f"{result.converged.sum()} of {len(faces)} training faces of 300-W")
    path = Path(tempfile.gettempdir()) / "pose_300w.png"
    figure.savefig(path, dpi=110)
    spread = np.percentile(angles.as_array()[result.converged], [5, 50, 95], axis=0).round(1)
    print(f"\n## Pose of the 300-W training faces: {path}\n5, 50, 95 % of yaw, pitch, roll: {spread.tolist()}")


PARTS = {
    "first": first_call,
    "accuracy": accuracy,
    "speed": speed,
    "planar": planar,
    "outliers": outliers,
    "hard": hard_cases,
    "faces": real_faces,
    "histogram": histogram,
}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
