"""The published loss curves: the same to the eye, and not to the suite; the page says what the figures say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from suites.tensor.loss_curves import STEPS, page

FOLDER = Path(__file__).parents[2] / "results" / "loss_curves"
FIGURES = json.loads((FOLDER / "figures.json").read_text())


def test_no_eye_tells_the_losses_apart_and_the_suite_does() -> None:
    losses = {name: np.array(curve) for name, curve in FIGURES["losses"].items()}
    reference, conforming, planted = losses.values()
    assert len(reference) == STEPS
    assert reference[-50:].mean() < 0.7 * reference[0], "something is learned"
    assert np.abs(conforming - reference).max() < 1e-5
    assert 0 < abs(planted[-50:].mean() - reference[-50:].mean()) < 0.01
    right, wrong = FIGURES["judged"].values()
    assert (right["verdict"], wrong["verdict"]) == ("pass", "fail")
    assert right["error"] < right["bound"]
    assert wrong["error"] > 1e6 * wrong["bound"]
    assert wrong["first"] == "step 1: gradients/final_norm.scale"


def test_the_pages_say_what_was_measured() -> None:
    assert (FOLDER / "README.md").read_text() == page(FIGURES["losses"], FIGURES["judged"])
    readme = (FOLDER.parents[1] / "README.md").read_text()
    for curve in FIGURES["losses"].values():
        assert f"{np.mean(curve[-50:]):.4f}" in readme
