"""What the step of FSDP2 and DTensor communicates, per device and step, as a formula over the contract and the mesh.

It is what the program declares of itself at every size; small, the case that proves it holds the program to that.
FSDP2 gathers and reduces all parameters of a unit in one buffer, so that no entry is of a single tensor.
Sources: Rajbhandari et al., ZeRO, section 7; Korthikanti et al., Reducing Activation Recomputation in Large Transformer
Models, section 4.2; Shoeybi et al., Megatron-LM, section 3.
"""

from __future__ import annotations

from conformance.contract.budget import Allowance
from conformance.contract.contract import Contract
from conformance.contract.mesh import Mesh
from suites.hybrid.torch_fsdp2.training import LanguageModel

_SOURCES = {
    "fsdp": "Rajbhandari et al., section 7: gathered for each pass, reduced once",
    "data": "Rajbhandari et al., section 7: shards of gradients summed over the replicas",
    "tensor": "Korthikanti et al., section 4.2; Shoeybi et al., section 3",
}


def modules(contract: Contract, mesh: Mesh, dtype: str) -> tuple[Allowance, ...]:
    """One entry for each formula of the program."""
    return tuple(
        Allowance(
            kind=transfer.kind,
            axes=transfer.axes,
            tensor="",
            dtype=transfer.dtype,
            elements=transfer.elements,
            calls=transfer.calls,
            phase=transfer.phase,
            formula="elements of a unit, of the tokens of a rank, or of a statistic of each token",
            source=_SOURCES[transfer.axes[-1]],
        )
        for transfer in LanguageModel(contract, mesh, dtype).transfers()
    )
