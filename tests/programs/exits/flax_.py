# preload: import jax
# preload: import flax.linen
import flax.linen as nn
import jax

model = nn.Dense(2)
print(jax.tree.map(lambda v: v.shape, model.init(jax.random.key(0), jax.numpy.ones((1, 3)))))
