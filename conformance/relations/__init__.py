"""The relations of the check `relations`, cheap ones first. Frameworks are known to workers only, never here."""

from conformance.relations.accumulation import Accumulation
from conformance.relations.batch_permutation import BatchPermutation
from conformance.relations.causal_leak import CausalLeak
from conformance.relations.checkpoint import Checkpoint
from conformance.relations.damaged_checkpoint import DamagedCheckpoint
from conformance.relations.dropout_masks import DropoutMasks
from conformance.relations.initial_values import InitialValues
from conformance.relations.masked_batch import MaskedBatch
from conformance.relations.mesh_permutation import MeshPermutation
from conformance.relations.recompute import Recompute
from conformance.relations.relation import Relation
from conformance.relations.second_model import SecondModel

_ALL: tuple[Relation, ...] = (
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

RELATIONS = {relation.name: relation for relation in _ALL}

__all__ = ["LAWS", "Law"]
