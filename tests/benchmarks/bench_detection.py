"""From photograph to landmarks with each detector that is installed: faces found, boxes, errors, time.

Run: SHAPE_MODELS_DATA=/path/to/data OMP_NUM_THREADS=1 python tests/benchmarks/bench_detection.py
        [--detectors scikit-image,dlib,retinaface] [--networks asmnet-68,hourglass-68] [--every N]

On the validation faces of 300-W. A face is found when the centre of the best box is within half of its side and the
size within half and twice. Errors are of the network in two passes, in percent of the distance of the outer corners of
the eyes, over the faces found, with 95 % bootstrap intervals over photographs. The convention of the boxes is learned
anew, on the training faces, from every third of them and, since detectors answer in steps, in four sizes.
"""

import argparse
import csv
import os
import time
from pathlib import Path

import numpy as np
from PIL import Image

from asmnet import Predictor
from evaluation import bootstrap_interval, nme
from shape_models import read_pts
from shape_models.boxes import learn_box_convention
from shape_models.images import read_image
from shape_models.search import find_faces
from shape_models.search.detectors import get_detector

DATA = Path(os.environ.get("SHAPE_MODELS_DATA", "")) / "300w"


def faces(part):
    with (DATA / "split.csv").open() as file:
        for name, photograph, split in csv.reader(file):
            if split == part:
                yield DATA / name, photograph, read_pts((DATA / name).with_suffix(".pts")).points


def is_on(box, points):
    tight = np.concatenate([points.min(0), points.max(0)])
    side, centre = (tight[2:] - tight[:2]).max(), (tight[:2] + tight[2:] - box[:2] - box[2:]) / 2
    return np.linalg.norm(centre) < side / 2 and 0.5 < (box[2:] - box[:2]).max() / side < 2


def learned(detector, every):
    found, truth = [], []
    for path, _, points in list(faces("train"))[:: 3 * every]:
        image = Image.fromarray(read_image(path))
        for factor in (1.0, 0.62, 0.8, 1.27):
            small = np.asarray(image.resize([round(side * factor) for side in image.size], Image.Resampling.BILINEAR))
            boxes = find_faces(small, detector, convention=None).boxes / factor
            found.append(boxes[0] if len(boxes) else np.full(4, np.nan))
            truth.append(points)
    return learn_box_convention(np.array(found), np.array(truth))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detectors", default="scikit-image,dlib,retinaface")
    parser.add_argument("--networks", default="asmnet-68,hourglass-68")
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args()
    val = list(faces("val"))[:: options.every]
    networks = {name: Predictor.from_pretrained(name) for name in options.networks.split(",")}
    for name in options.detectors.split(","):
        try:
            get_detector(name)
        except ImportError as error:
            print(f"{name}: {error}")
            continue
        start = time.process_time()
        found = [find_faces(path, name).boxes for path, _, _ in val]
        cost = (time.process_time() - start) / len(val)
        right = [len(boxes) > 0 and is_on(boxes[0], points) for boxes, (_, _, points) in zip(found, val, strict=True)]
        several = sum(len(boxes) > 1 for boxes in found)
        print(
            f"{name}: {sum(right)} of {len(val)} faces, {several} images with more than one box, {1e3 * cost:.0f} ms; "
            f"learned {learned(name, options.every)}"
        )
        for label, predictor in networks.items():
            answers, truth, groups = [], [], []
            for boxes, (path, photograph, points) in zip(found, val, strict=True):
                if len(boxes):
                    answers.append(predictor(path, boxes[:1], n_passes=2)[0].landmarks)
                    truth.append(points)
                    groups.append(photograph)
            errors = nme(np.array(truth), np.array(answers), normalizer="inter_ocular", scheme="ibug68")
            print(f"  {label}: {bootstrap_interval(errors, groups=groups).scaled(100):.2f} %", flush=True)


if __name__ == "__main__":
    main()
