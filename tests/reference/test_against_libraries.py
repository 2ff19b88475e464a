"""Each part of the references against an independent implementation of the same law."""

from functools import partial
from importlib import import_module

import numpy as np
import pytest

from conformance.contract.contract import Recipe
from reference.architecture import Architecture
from reference.parameters import draw, generator
from tests.reference.table import FRAMEWORKS, Example, relative_error, run, to_numpy

jnp = pytest.importorskip("jax.numpy")
torch = pytest.importorskip("torch")
functional = torch.nn.functional

B, S, H, K, E, V = 3, 7, 6, 2, 4, 11
MODEL = Architecture(kind="attention", hidden=10, num_heads=H, num_kv_heads=K, head_size=E)
EVERY_FRAMEWORK = pytest.mark.parametrize("framework", FRAMEWORKS)


def part(framework: str, module: str, name: str):
    return getattr(import_module(f"reference.{framework}.{module}"), name)


def tensor(framework: str, array):
    return jnp.asarray(array) if framework == "jax" else torch.as_tensor(np.array(array))


def statistics(framework: str):
    return "float64" if framework == "jax" else torch.float64


def normal(name: str, *shape: int) -> np.ndarray:
    return generator(0, name).normal(size=shape)


@EVERY_FRAMEWORK
@pytest.mark.parametrize("fused_gradient", [False, True])
def test_attention_is_scaled_dot_product_attention(framework, fused_gradient):
    q, k, v = normal("q", B, S, H, E), normal("k", B, S, K, E), normal("v", B, S, K, E)
    attention_mask = (generator(0, "padding").random((B, S)) < 0.6).astype(float)
    visible = torch.as_tensor(np.tril(np.ones((S, S))) * attention_mask[:, None, :] + np.eye(S) > 0)[:, None]
    wanted = functional.scaled_dot_product_attention(
        *(torch.as_tensor(x).transpose(1, 2) for x in (q, k, v)), attn_mask=visible, enable_gqa=True
    ).transpose(1, 2)
    seen = part(framework, "attention", "visible")({"attention_mask": tensor(framework, attention_mask)}, MODEL)
    inputs = (tensor(framework, x) for x in (q, k, v))
    attended = part(framework, "attention", "attend")(*inputs, seen, statistics(framework), fused_gradient)
    assert relative_error(to_numpy(attended), to_numpy(wanted)) < 1e-14


@EVERY_FRAMEWORK
def test_rotary_turns_complex_numbers(framework):
    x = normal("x", B, S, H, E)
    turn = np.exp(1j * np.arange(S)[:, None] * 100.0 ** (-np.arange(E // 2) / (E // 2)))[None, :, None]
    turned = (x[..., : E // 2] + 1j * x[..., E // 2 :]) * turn
    ours = part(framework, "attention", "rotary")(tensor(framework, x), 100.0)
    assert relative_error(to_numpy(ours), np.concatenate([turned.real, turned.imag], axis=-1)) < 1e-14


@EVERY_FRAMEWORK
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy_and_z_term(framework, smoothing):
    logits, targets = 100 * normal("logits", B, S, V), generator(0, "targets").integers(0, V, (B, S))
    wanted = functional.cross_entropy(
        torch.as_tensor(logits).flatten(0, 1),
        torch.as_tensor(targets).flatten(),
        label_smoothing=smoothing,
        reduction="none",
    )
    loss = part(framework, "losses", "cross_entropy")
    inputs = tensor(framework, logits), tensor(framework, targets.astype(np.int32))
    entropy, z = loss(*inputs, smoothing, 0.5, statistics(framework))
    assert relative_error(to_numpy(entropy).ravel(), to_numpy(wanted)) < 1e-14
    assert relative_error(to_numpy(z), to_numpy(0.5 * torch.logsumexp(torch.as_tensor(logits), -1) ** 2)) < 1e-14


@EVERY_FRAMEWORK
def test_quadratic_loss(framework):
    y, targets, mask = (
        normal("y", B, S, E),
        normal("targets", B, S, E),
        np.array([[1.0] * S, [0] * S, [1] + [0] * (S - 1)]),
    )
    rows = [(b, s) for b in range(B) for s in range(S) if mask[b, s]]
    wanted = sum(0.5 * np.dot(y[row] - targets[row], y[row] - targets[row]) for row in rows)
    inputs = (tensor(framework, x) for x in (y, targets, mask))
    losses = part(framework, "losses", "quadratic")(*inputs, statistics(framework))
    assert relative_error(to_numpy(losses), wanted) < 1e-14


@EVERY_FRAMEWORK
def test_sinusoidal_positions(framework):
    table = part(framework, "layers", "sinusoidal")(5, 6)
    assert np.array_equal(table[0], [0, 1, 0, 1, 0, 1])
    assert np.allclose(table[3, 2:4], [np.sin(3 / 10000 ** (2 / 6)), np.cos(3 / 10000 ** (2 / 6))], rtol=1e-15)


@EVERY_FRAMEWORK
@pytest.mark.parametrize("kind", ["rms", "layer"])
def test_a_whole_layer(framework, kind):
    """A decoder layer, its loss and its gradients, from nothing but torch's own operators on torch's own layout."""
    model = Architecture(
        kind="layer",
        hidden=12,
        num_heads=3,
        num_kv_heads=3,
        head_size=4,
        ffn=10,
        norm=kind,
        positions="none",
        fused_qkv=True,
    )
    example = Example(model=model, recipe=Recipe())
    leaves = {name: torch.tensor(p, requires_grad=True) for name, p in draw(example.shapes, 2).items()}
    loss = _torch_layer(model, leaves, {key: torch.as_tensor(value) for key, value in example.batches()[0].items()})
    loss.backward()
    observed = run(framework, example)[0]
    assert relative_error(observed["loss"], to_numpy(loss.detach())) < 1e-13
    for name, leaf in leaves.items():
        assert relative_error(observed[f"gradients/{name}"], to_numpy(leaf.grad)) < 1e-12, name


def _torch_layer(model: Architecture, p: dict, batch: dict):
    def norm(x, name):
        if model.norm == "rms":
            return functional.rms_norm(x, (12,), p[f"{name}.scale"], eps=model.norm_epsilon)
        return functional.layer_norm(x, (12,), p[f"{name}.scale"], p[f"{name}.bias"], eps=model.norm_epsilon)

    def linear(x, name):
        return functional.linear(x, p[f"{name}.weight"].T, p[f"{name}.bias"])

    x, real = batch["inputs"], batch["attention_mask"] > 0
    qkv = linear(norm(x, "layer.attention_norm"), "layer.attention.qkv")
    q, k, v = (block.reshape(*block.shape[:2], 3, 4).transpose(1, 2) for block in qkv.split(12, dim=-1))
    visible = (torch.ones(x.shape[1], x.shape[1]).tril() * real[:, None] + torch.eye(x.shape[1])) > 0
    mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=visible[:, None])
    x = x + linear(mixed.transpose(1, 2).reshape(x.shape), "layer.attention.output")
    up = linear(norm(x, "layer.feedforward_norm"), "layer.feedforward.up")
    y = x + linear(functional.gelu(up, approximate="tanh"), "layer.feedforward.down")
    valid = batch["mask"] > 0
    return functional.mse_loss(y[valid], batch["targets"][valid]) / 2


RECIPES = [
    Recipe(optimizer=optimizer, clip_norm=clip_norm, weight_decay=decay)
    for optimizer in ("sgd", "adamw")
    for clip_norm, decay in ((None, 0.125), (0.5, 0.0), (1e6, 0.0625))
] + [Recipe(optimizer=optimizer, weight_decay=0.125, decays="weights") for optimizer in ("sgd", "adamw")]


@EVERY_FRAMEWORK
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe.optimizer}-{recipe.clip_norm}-{recipe.decays}")
@pytest.mark.parametrize("library", ["optax", "torch.optim"])
def test_optimizers(framework, library, recipe):
    """Four updates of two parameters: ours, optax and torch.optim."""
    parameters = {name: normal(name, *shape) for name, shape in (("a.weight", (3, 4)), ("a.bias", (5,)))}
    gradients = [{name: normal(f"{name}{step}", *p.shape) for name, p in parameters.items()} for step in range(4)]
    library = _optax if library == "optax" else _torch_optim
    wanted, updated = library(parameters, gradients, recipe), _ours(framework, parameters, gradients, recipe)
    for name in parameters:
        assert relative_error(updated[name], wanted[name]) < 1e-14


def _ours(framework: str, parameters: dict, gradients: list[dict], recipe: Recipe) -> dict[str, np.ndarray]:
    optimizers = import_module(f"reference.{framework}.optimizers")
    to_tensor = partial(tensor, framework)
    p = {name: to_tensor(value) for name, value in parameters.items()}
    state = optimizers.slots(p, recipe)
    for number, gradient_set in enumerate(gradients, start=1):
        g = {name: to_tensor(value) for name, value in gradient_set.items()}
        clipped = optimizers.clip(g, optimizers.global_norm(g), recipe.clip_norm)
        p, state = optimizers.update(p, clipped, state, to_tensor(number), recipe)
    return {name: to_numpy(value) for name, value in p.items()}


def _optax(parameters: dict, gradients: list[dict], recipe: Recipe) -> dict[str, np.ndarray]:
    optax = pytest.importorskip("optax")
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "sgd":
        decaying = optax.add_decayed_weights(decay, mask=_decayed(recipe))
        inner = optax.chain(decaying, optax.sgd(rate, momentum=recipe.momentum))
    else:
        inner = optax.adamw(rate, *recipe.betas, eps=recipe.epsilon, weight_decay=decay, mask=_decayed(recipe))
    clip = optax.identity() if recipe.clip_norm is None else optax.clip_by_global_norm(recipe.clip_norm)
    optimizer = optax.chain(clip, inner)
    p = {name: jnp.asarray(value) for name, value in parameters.items()}
    state = optimizer.init(p)
    for gradient_set in gradients:
        updates, state = optimizer.update({name: jnp.asarray(value) for name, value in gradient_set.items()}, state, p)
        p = optax.apply_updates(p, updates)
    return {name: to_numpy(value) for name, value in p.items()}


def _decayed(recipe: Recipe) -> dict[str, bool]:
    """Biases may be a group of their own."""
    return {"a.weight": True, "a.bias": recipe.decays == "all"}


def _torch_optim(parameters: dict, gradients: list[dict], recipe: Recipe) -> dict[str, np.ndarray]:
    """Clipped by hand: torch's own clipping adds 1e-6 to the norm."""
    p = {name: torch.tensor(value, requires_grad=True) for name, value in parameters.items()}
    rate, decay = recipe.learning_rate, recipe.weight_decay
    groups = [
        {"params": [p[name]], "weight_decay": decay if decays else 0.0} for name, decays in _decayed(recipe).items()
    ]
    if recipe.optimizer == "sgd":
        optimizer = torch.optim.SGD(groups, lr=rate, momentum=recipe.momentum)
    else:
        optimizer = torch.optim.AdamW(groups, rate, recipe.betas, recipe.epsilon)
    for gradient_set in gradients:
        norm = torch.nn.utils.get_total_norm([torch.as_tensor(value) for value in gradient_set.values()])
        factor = 1.0 if recipe.clip_norm is None else min(1.0, recipe.clip_norm / float(norm))
        for name, value in gradient_set.items():
            p[name].grad = torch.tensor(value * factor)
        optimizer.step()
    return {name: to_numpy(value.detach()) for name, value in p.items()}
