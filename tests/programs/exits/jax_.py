# preload: import jax
# preload: import jax.numpy
import jax
import jax.numpy as jnp

print(float(jax.grad(lambda v: (v**2).sum())(jnp.ones(3)).sum()))
