"""From words to cases: what a selection means, what a case id says, and the command that reproduces a case."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.cases.case import DEVICES, DTYPES, Case, Mutation
from conformance.cases.selection import Selection, parse_case, select
from conformance.cases.suite import suites
from conformance.cases.usage import UsageError
from conformance.cli.main import app
from conformance.contract.mesh import ORDERS, Mesh
from conformance.contract.roles import ROLES
from conformance.records.reproduce import reproduce

MLP: dict[str, Any] = {"contracts": ("tensor/mlp",), "implementation": "jax-shard_map"}
CASE: dict[str, Any] = {"contract": "tensor/mlp", "implementation": "jax-shard_map"}

meshes = st.builds(
    lambda axes, sizes, order: Mesh(sizes=tuple(zip(axes, sizes, strict=False)), order=order),
    st.lists(st.sampled_from(("dp", "tp_x", *ROLES)), min_size=1, max_size=4, unique=True),
    st.lists(st.integers(1, 4096), min_size=4, max_size=4),
    st.sampled_from(ORDERS),
)
cases = st.builds(
    Case,
    contract=st.sampled_from(["tensor/mlp", "moe/top-2_router"]),
    implementation=st.sampled_from(["jax-shard_map", "./a dir/my-file [2].py:Mine", "/x/tensor4-float64.py:A"]),
    mesh=meshes,
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 10**6),
    devices=st.sampled_from(DEVICES),
    fault=st.none() | st.sampled_from(["row-parallel-bias-added-per-rank", "stale-by-one-seed3"]),
    mutation=st.none() | st.builds(Mutation, operator=st.sampled_from(["drop", "wrong_axis"]), site=st.integers(0, 99)),
)


@settings(deadline=None)
@given(cases)
def test_a_case_id_says_the_whole_case(case: Case) -> None:
    assert parse_case(case.id) == case


def test_every_standing_case_is_reproduced_by_its_command() -> None:
    for case in suites()["tensor"].cases("core")[::7]:
        words = shlex.split(reproduce(case))[2:]
        options = dict(zip(words[::2], words[1::2], strict=True))
        wanted = Selection(
            contracts=(options["--contract"],),
            implementation=options["--implementation"],
            mesh=options["--mesh"],
            dtype=options["--dtype"],
            seed=int(options["--seed"]),
        )
        assert select(wanted) == [case]


def test_the_command_survives_a_shell() -> None:
    case = Case(
        contract="tensor/mlp", implementation="./my file.py:A", mesh=Mesh.parse("tensor=2@reversed"), dtype="float32"
    )
    words = shlex.split(reproduce(case, ["logic"]))
    assert words[:5] == ["shardproof", "run", "--contract", "tensor/mlp", "--implementation"]
    assert words[5] == f"{Path.cwd()}/my file.py:A"  # from any folder
    assert words[-2:] == ["--check", "logic"]
    known = {option for command in app.registered_commands for option in _options(command.callback)}
    assert {word for word in words if word.startswith("--")} <= known


def _options(callback) -> set[str]:
    from typing import get_type_hints

    hints = get_type_hints(callback.__wrapped__, include_extras=True)
    infos = [meta for hint in hints.values() for meta in getattr(hint, "__metadata__", ())]
    return {name for info in infos for name in getattr(info, "param_decls", None) or ()} | {
        info.default for info in infos if isinstance(getattr(info, "default", None), str)
    }


def test_a_fault_is_reproduced_by_power() -> None:
    case = Case(**CASE, mesh=Mesh.parse("tensor=2"), dtype="float64", fault="bias-twice")
    assert reproduce(case) == "shardproof power tensor --implementation jax-shard_map"


def test_profiles_grow() -> None:
    sizes = [len(select(Selection(profile=profile))) for profile in ("smoke", "core", "full")]
    assert sizes == sorted(sizes)
    assert len(select(Selection())) == sizes[1]


def test_filters_keep_only_what_was_asked_for() -> None:
    selected = select(Selection(suites=("tensor",), framework="torch", dtype="bfloat16", profile="full"))
    assert {case.dtype for case in selected} == {"bfloat16"}
    assert {case.implementation for case in selected} == {"torch-collectives", "torch-dtensor"}


def test_a_mesh_outside_the_matrix_is_run_all_the_same() -> None:
    (selected,) = select(Selection(**MLP, mesh="pipeline=2,tensor=5", dtype="float16", seed=9))
    assert selected.id == "tensor/mlp[jax-shard_map-pipeline2_tensor5-float16-seed9]"
    assert selected.expect == "pass"


def test_the_expectation_of_the_matrix_is_kept() -> None:
    (selected,) = select(
        Selection(
            contracts=("tensor/attention_mha_fused",), implementation="jax-shard_map", mesh="tensor=3", dtype="float64"
        )
    )
    assert selected.expect == "unsupported"


@pytest.mark.parametrize("parts", [2, 5])
def test_fractions_share_the_cases_out(parts: int) -> None:
    whole = select(Selection(profile="smoke"))
    shares = [select(Selection(profile="smoke", fraction=f"{i}/{parts}")) for i in range(1, parts + 1)]
    assert sorted(case.id for share in shares for case in share) == sorted(case.id for case in whole)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"suites": ("tensr",)}, "did you mean 'tensor'"),
        ({"profile": "smok"}, "did you mean 'smoke'"),
        ({"contracts": ("mlp",)}, "did you mean 'sequence/mlp' or 'tensor/mlp'"),
        ({"contracts": ("tensor/mpl",)}, "shardproof list contracts"),
        ({"implementation": "jax-shardmap"}, "did you mean 'jax-shard_map'"),
        ({"framework": "tensorflow"}, "jax and torch"),
        ({"dtype": "fp32"}, "Unknown dtype 'fp32'"),
        ({"mesh": "tensr=4"}, "Unknown mesh axis 'tensr'"),
        ({"mesh": "tensor"}, "write axis=size"),
        ({"mesh": ""}, "write axis=size"),
        ({"cases": ("tensor/mlp",)}, "is no case id"),
        ({"cases": ("tensor/mlp[nobody-tensor2-float64]",)}, "Unknown implementation"),
        ({"cases": ("tensor/mlp[jax-shard_map-tensor2-float64-fault:x]",)}, "shardproof power"),
        ({"cases": ("tensor/mlp[jax-shard_map-tensor2-float64]",), "seed": 1}, "leave out"),
        ({"mesh": "tensor=0"}, "at least 1"),
        (MLP | {"mesh": "tensor=4096"}, "at most"),
        ({"seed": -1}, "negative"),
        ({"fraction": "5/4"}, "1/4"),
        ({"fraction": "x"}, "1/4"),
        ({"profile": "smoke", "fraction": "99/100"}, "No case matches"),
        ({"profile": "smoke", "framework": "jax", "implementation": "torch-dtensor"}, "No case matches"),
        ({"devices": "quantum"}, "Unknown kind of devices"),
        ({"implementation": "mine.py:A"}, "needs --contract"),
        ({"contracts": ("tensor/mlp",), "implementation": "nowhere.py:A", "mesh": "tensor=2"}, "There is no file"),
        ({"contracts": ("tensor/mlp",), "implementation": "nowhere.py", "mesh": "tensor=2"}, "file.py:Class"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(wanted: dict, said: str) -> None:
    with pytest.raises(UsageError, match=r"\w") as refused:
        select(Selection(**wanted))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
