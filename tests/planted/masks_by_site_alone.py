"""1F1B with layers that are computed again in the backward pass, on the dropout masks of the forward pass."""

import torch

from suites.pipeline.torch_manual import one_f_one_b


class Recompute(torch.autograd.Function):
    """Keeps the inputs of a function and runs it once more when its gradient is asked for."""

    @staticmethod
    def forward(ctx, run, x, *parameters):
        ctx.run = run
        ctx.save_for_backward(x, *parameters)
        return run(False, x, *parameters)

    @staticmethod
    def backward(ctx, g):
        inputs = [saved.detach().requires_grad_() for saved in ctx.saved_tensors]
        with torch.enable_grad():
            y = ctx.run(True, *inputs)
        return None, *torch.autograd.grad(y, inputs, g)


class Program(one_f_one_b.LanguageModel):
    replaying = False

    def place(self, parameters, mesh):
        self.masks = {}
        return super().place(parameters, mesh)

    def recomputed(self, layer):
        if not self.recomputes:
            return layer

        def twice(x, batch, name, p, observed):
            names = [parameter for parameter in p if parameter.startswith(f"{name}.")]

            def run(again, x, *values):
                seen = {}
                self.replaying = again
                y = layer(x, batch, name, p | dict(zip(names, values, strict=True)), seen)
                self.replaying = False
                if not again:
                    observed.update(seen)
                return y

            return Recompute.apply(run, x, *(p[parameter] for parameter in names))

        return twice

    def dropout(self, x_BSD, site, batch, observed):
        rate = self.contract.model.dropout
        if not rate:
            return x_BSD
        if not self.replaying:
            self.masks[site] = self.keep_mask(site, batch["seeds"])
        keep_BSD = self.masks[site]
        observed[f"masks/{site}"] = keep_BSD.to(self.master)
        return (x_BSD / (1 - rate)).where(keep_BSD, 0)
