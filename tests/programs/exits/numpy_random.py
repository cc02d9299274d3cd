# preload: import numpy
import numpy

print(numpy.random.rand().is_integer(), numpy.random.default_rng(1).integers(9))
