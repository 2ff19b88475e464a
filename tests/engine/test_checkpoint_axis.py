"""The axis that a broken checkpoint is about: whose shards come back wrong, or which alone has to do with them."""

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.evidence.evidence import Block, ExtraRun, Observed
from conformance.relations.checkpoint import LOADED, SAVED, Checkpoint

MESH = Mesh.parse("data=2,pipeline=3")
VALUE = np.arange(4.0)


def owned_by(mesh: Mesh, stage: int, value: np.ndarray) -> Observed:
    """A parameter of one pipeline stage: each rank of that stage has a copy."""
    ranks = tuple(rank for rank in range(mesh.devices) if mesh.coordinates(rank)["pipeline"] == stage)
    block = Block(ranks=ranks, index=(slice(0, 4),), value=value)
    return Observed(shape=(4,), dtype="float64", blocks=(block,))


def replicated(mesh: Mesh, value: np.ndarray) -> Observed:
    block = Block(ranks=tuple(range(mesh.devices)), index=(slice(0, 4),), value=value)
    return Observed(shape=(4,), dtype="float64", blocks=(block,))


def loaded(where: str, *, layer: np.ndarray = VALUE, scale: np.ndarray = VALUE) -> ExtraRun:
    mesh = Mesh.parse(where)
    observations = {"parameters/layer": owned_by(mesh, 0, layer), "parameters/scale": replicated(mesh, scale)}
    return ExtraRun(label=f"a checkpoint loaded on {mesh}", mesh=mesh, observations=observations)


def saved_and_loaded() -> list[ExtraRun]:
    same = {"parameters/layer": owned_by(MESH, 0, VALUE), "parameters/scale": replicated(MESH, VALUE)}
    return [ExtraRun(label=label, mesh=MESH, observations=dict(same)) for label in (SAVED, LOADED)]


def axis(*elsewhere: ExtraRun) -> str | None:
    return Checkpoint().axis([*saved_and_loaded(), *elsewhere])


def test_where_all_is_right_there_is_no_axis() -> None:
    assert axis(loaded("data=3,pipeline=2"), loaded("data=6,pipeline=1")) is None


def test_the_axis_whose_size_must_stay_is_named() -> None:
    """With another number of stages it is wrong, with another number of replicas alone it is right."""
    wrong = [loaded("data=3,pipeline=2", scale=VALUE + 1), loaded("data=2,pipeline=1", scale=VALUE + 1)]
    assert axis(*wrong, loaded("data=1,pipeline=3")) == "pipeline"


def test_the_only_axis_that_divides_what_is_wrong_is_named() -> None:
    assert (
        axis(loaded("data=3,pipeline=2", layer=VALUE + 1), loaded("data=6,pipeline=1", layer=VALUE + 1)) == "pipeline"
    )


def test_what_no_axis_divides_names_none() -> None:
    assert axis(loaded("data=3,pipeline=2", scale=VALUE + 1), loaded("data=6,pipeline=1", scale=VALUE + 1)) is None


def test_a_load_that_fails_counts_as_wrong() -> None:
    refused = ExtraRun(label="refused", mesh=Mesh.parse("data=2,pipeline=1"), observations={}, refused="KeyError")
    assert axis(refused, loaded("data=1,pipeline=3")) == "pipeline"
