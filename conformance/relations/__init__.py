"""The laws of the check `relations`, cheap ones first. Frameworks are known to workers only, never here."""

from conformance.relations.accumulation import Accumulation
from conformance.relations.batch_permutation import BatchPermutation
from conformance.relations.causal_leak import CausalLeak
from conformance.relations.checkpoint import Checkpoint
from conformance.relations.damaged_checkpoint import DamagedCheckpoint
from conformance.relations.dropout_masks import DropoutMasks
from conformance.relations.initial_values import InitialValues
from conformance.relations.law import Law
from conformance.relations.masked_batch import MaskedBatch
from conformance.relations.mesh_permutation import MeshPermutation
from conformance.relations.recompute import Recompute
from conformance.relations.second_model import SecondModel

_ALL: tuple[Law, ...] = (
    DropoutMasks(),
    MaskedBatch(),
    BatchPermutation(),
    CausalLeak(),
    InitialValues(),
    MeshPermutation(),
    Recompute(),
    Accumulation(),
    SecondModel(),
    Checkpoint(),
    DamagedCheckpoint(),
)

LAWS = {law.name: law for law in _ALL}

__all__ = ["LAWS", "Law"]
