"""Train a small Flax model with Muon: the forty lines to copy."""

import jax
import optax
from flax import nnx

from muon_optax import muon


class MLP(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(16, 64, rngs=rngs)
        self.head = nnx.Linear(64, 4, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.hidden(x)))


# Muon trains kernels. AdamW trains biases and the head, found by name, at its own rate.
model = MLP(nnx.Rngs(0))
tx = muon(learning_rate=0.02, adam_learning_rate=0.01, weight_decay=0.01)
optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)


@nnx.jit
def train_step(model, optimizer, x, y):
    def loss(model):
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    value, grads = nnx.value_and_grad(loss)(model)
    optimizer.update(model, grads)
    return value


x = jax.random.normal(jax.random.key(0), (256, 16))
y = (x[:, :4] * x[:, 4:8]).argmax(axis=1)
for step in range(101):
    value = train_step(model, optimizer, x, y)
    if step % 20 == 0:
        print(f"step {step:3d}  loss {value:.4f}")
