"""What the step of FSDP2 and DTensor communicates, per device and step, as a formula over the contract and the mesh.

It is made from contract and mesh, whatever the program does; small, the case that proves it is held to the same one.
FSDP2 gathers and reduces all parameters of a unit in one buffer, so that no entry is of a single tensor.
Sources: Rajbhandari et al., ZeRO, section 7; Korthikanti et al., Reducing Activation Recomputation in Large Transformer
Models, section 4.2; Shoeybi et al., Megatron-LM, section 3.
"""

from __future__ import annotations

from conformance.contract.budget import Allowance
from conformance.contract.contract import Contract
from conformance.contract.mesh import Mesh
from suites.hybrid.step_budget import FSDP2_TENSOR
from suites.training.step_budget import TORCH


def modules(contract: Contract, mesh: Mesh, dtype: str) -> tuple[Allowance, ...]:
    """One entry for each formula: the budget that the small cases of the program are held to."""
    return tuple(
        Allowance(
            kind=transfer.kind,
            axes=transfer.axes,
            tensor="",
            dtype=transfer.dtype,
            elements=transfer.elements,
            calls=transfer.calls,
            phase=transfer.phase,
            formula=transfer.formula,
            source=transfer.source,
        )
        for transfer in FSDP2_TENSOR["language_model"].transfers(contract, mesh, dtype, TORCH)
    )
