"""fully_shard over a decoder that DTensor has divided over tensor."""

from torch.distributed.fsdp import fully_shard

from suites.hybrid.torch_fsdp2 import training
from suites.hybrid.torch_fsdp2.modules import Decoder


class Program(training.LanguageModel):
    def build(self):
        model = self.sharded(Decoder(self).to(self.master))
        config = {"mesh": self.state_mesh, "mp_policy": self.policy()}
        layers = [fully_shard(layer, **config) for layer in model.layers]
        for unit in layers:
            unit.set_gradient_divide_factor(1.0)
        root = fully_shard(model, **config)
        for unit in (*layers, root):
            unit.set_force_sum_reduction_for_comms(True)
        return model
