"""The search beside dlib's shape predictor, trained on the same images with the same boxes, each on images left out.

    SHAPE_MODELS_DATA=/path/to/data python tests/benchmarks/bench_dlib.py [--sets hands,fly_wings,imm,300w]
        [--methods "dlib;profiles;patches"] [--folds N] [--train N] [--test N]

dlib comes with the extra "detect" (dlib-bin). Its predictor is trained with its default options, and with "dlib, moved"
boxes that are moved in training (oversampling_translation_jitter=0.1), both on one thread. Boxes are the tight ones of
the landmarks; "off" are boxes moved and scaled by up to 10 % of their longer side. Errors are mean distances of the
landmarks in percent of the longer side of the true box, with 95 % intervals of the bootstrap over groups. Times are of
one core.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from bench_placement import boxes_of
from bench_search_accuracy import LOADERS

from evaluation import bootstrap_interval
from shape_models import ASM, AlignedASM, save_model
from shape_models.search import ASMFitter


class Dlib:
    def __init__(self, jitter=0.0):
        self.jitter = jitter

    def fit(self, images, shapes, groups, scheme):
        import dlib

        options = dlib.shape_predictor_training_options()
        options.num_threads = 1
        options.oversampling_translation_jitter = self.jitter
        objects = []
        for shape, box in zip(shapes, boxes_of(shapes), strict=True):
            points = dlib.points([dlib.point(*map(int, np.round(point))) for point in shape])
            objects.append([dlib.full_object_detection(dlib.rectangle(*map(int, np.round(box))), points)])
        self.model = dlib.train_shape_predictor(list(images), objects, options)
        return self

    def save(self, path):
        self.model.save(str(path))

    def predict(self, images, boxes):
        import dlib

        out = []
        for image, box in zip(images, boxes, strict=True):
            found = self.model(image, dlib.rectangle(*map(int, np.round(box))))
            out.append([(part.x, part.y) for part in found.parts()])
        return np.array(out, dtype=float)


class Search:
    def __init__(self, evidence):
        self.evidence = evidence

    def fit(self, images, shapes, groups, scheme):
        asm = AlignedASM(ASM(0.98), scheme=scheme)
        self.model = ASMFitter(asm, evidence=self.evidence).fit(images, shapes, groups=groups)
        return self

    def save(self, path):
        save_model(self.model, path)

    def predict(self, images, boxes):
        return np.array([result.shape for result in self.model.predict(images, boxes=boxes)])


METHODS = {
    "dlib": Dlib,
    "dlib, moved": lambda: Dlib(0.1),
    "profiles": lambda: Search("profiles"),
    "patches": lambda: Search("patches"),
}


def run(name, n_folds, n_train, n_test, methods):
    images, shapes, groups, folds, scheme, _ = LOADERS[name]()
    rows = {method: [] for method in methods}
    for train, test in folds[:n_folds]:
        train, test = np.flatnonzero(train), np.flatnonzero(test)
        if n_train:
            train = train[:: max(1, len(train) // n_train)]
        if n_test:
            test = test[:: max(1, len(test) // n_test)]
        seen, truth = [images[i] for i in test], shapes[test]
        boxes = boxes_of(truth)
        side = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
        rng = np.random.default_rng(0)
        middle, half = 0.5 * (boxes[:, :2] + boxes[:, 2:]), 0.5 * (boxes[:, 2:] - boxes[:, :2])
        middle = middle + rng.uniform(-0.1, 0.1, middle.shape) * side[:, None]
        half = half * (1 + rng.uniform(-0.1, 0.1, (len(half), 1)))
        off = np.concatenate([middle - half, middle + half], axis=1)
        for method in methods:
            began = time.process_time()
            model = METHODS[method]().fit([images[i] for i in train], shapes[train], groups[train], scheme)
            seconds = time.process_time() - began
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "model.npz" if isinstance(model, Search) else "model.dat")
                model.save(path)
                size = path.stat().st_size / 1e6
            errors = [
                100 * np.linalg.norm(model.predict(seen, given) - truth, axis=-1).mean(-1) / side
                for given in (boxes, off)
            ]
            rows[method].append((errors, groups[test], seconds, size))
    for method, parts in rows.items():
        errors, who = np.concatenate([part[0] for part in parts], axis=1), np.concatenate([p[1] for p in parts])
        true, moved = (bootstrap_interval(values, groups=who, rng=0) for values in errors)
        seconds, size = (np.mean([part[i] for part in parts]) for i in (2, 3))
        numbers = " ".join(f"{one.estimate:6.2f} [{one.low:.2f}, {one.high:.2f}]" for one in (true, moved))
        print(f"{name:10} {method:12} {len(train):5d} {len(who):5d} {numbers} {seconds:8.0f} {size:7.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", default="hands,fly_wings,imm,300w")
    parser.add_argument("--methods", default=";".join(METHODS), help="separated by semicolons")
    parser.add_argument("--folds", type=int, help="only the first so many folds")
    parser.add_argument("--train", type=int, help="about so many training images")
    parser.add_argument("--test", type=int, help="about so many images of each fold")
    options = parser.parse_args()
    print(f"{'set':10} {'method':12} train  test {'true boxes':>20} {'boxes off':>20} {'train s':>8} {'MB':>7}")
    for name in options.sets.split(","):
        run(name, options.folds, options.train, options.test, options.methods.split(";"))


if __name__ == "__main__":
    main()
