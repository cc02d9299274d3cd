# preload: import jax, jax.numpy
import jax
import jax.numpy as jnp


@jax.jit
def loss(w, x):
    return jnp.tanh(x @ w).sum()


x = jnp.arange(64.0).reshape(8, 8) / 64
print(loss(x, x), jax.grad(loss)(x, x).sum())
print(jax.random.normal(jax.random.key(0), (4,)), jax.devices())
print(jax.vmap(lambda v: jnp.linalg.norm(v))(x))
print(jnp.linalg.eigvalsh(x + x.T))
