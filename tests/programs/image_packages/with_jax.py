# varies: JAX_ENABLE_X64=1: print(jax.numpy.arange(2.0).dtype)
# varies: XLA_FLAGS=--xla_force_host_platform_device_count=3: print(jax.device_count())
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
