"""Results at a prompt say what they hold on a few lines."""

import dataclasses

import pytest

from pose import Camera, Pose, project_points, solve_pnp
from pose.reference import HEAD_IBUG68
from shape_models import (
    IBUG68,
    ThinPlateSpline,
    convert,
    estimate_similarity,
    find_outliers,
    fit_shape,
    generalized_procrustes,
    leave_one_out,
    load_model,
    make_faces,
    symmetry,
)  # fmt: skip
from shape_models.datasets import load_landmarks
from shape_models.search import RefinedLandmarks, SearchResult


@pytest.fixture(scope="module")
def results():
    faces, face = make_faces(20, rng=0), load_model("face68")
    camera = Camera.from_image_size((640, 480))
    points = project_points(HEAD_IBUG68, Pose.identity([20.0, 0.0, 700.0]), camera)
    aligned = generalized_procrustes(faces)
    return [
        aligned, face.complete(faces), face.report(faces[0]), fit_shape(face, faces), find_outliers(faces),
        leave_one_out(aligned.aligned, 0.9), symmetry(faces, IBUG68), convert(faces, "ibug68", "cofw29"),
        ThinPlateSpline.fit(faces[0], faces[1]), estimate_similarity(faces, faces[0]), load_landmarks(faces)[0],
        solve_pnp(HEAD_IBUG68, points, camera), SearchResult.failed(68, 31, status="no face", message="nothing"),
        RefinedLandmarks.failed(68, "error", "no image"),
    ]  # fmt: skip


def test_a_result_fits_on_a_few_lines_and_names_its_fields(results):
    for result in results:
        text = repr(result)
        assert "\n" not in text
        assert len(text) < 1500, text
        assert text.startswith(type(result).__name__ + "(")
        for field in dataclasses.fields(result):
            assert (f"{field.name}=" in text) == field.repr, (field.name, text)


def test_large_arrays_show_their_shape_and_small_ones_their_numbers():
    similarity = estimate_similarity(make_faces(1, rng=0)[0], make_faces(1, rng=1)[0])
    assert "rotation=array([[" in repr(similarity)
    found = SearchResult.failed(68, 31, status="no face", message="nothing detected")
    assert "(shape=<array (68, 2) of float64>, " in repr(found)
    assert ", expected_error=nan, " in repr(found)
    assert ", status='no face', " in repr(found)
