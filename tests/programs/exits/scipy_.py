# preload: import scipy
import numpy
import scipy

print(round(scipy.optimize.minimize(lambda v: (v[0] - 1) ** 2, [0.0]).x[0], 3))
print(scipy.sparse.csr_matrix(numpy.eye(3)).nnz, round(scipy.stats.norm.cdf(0.0), 2))
