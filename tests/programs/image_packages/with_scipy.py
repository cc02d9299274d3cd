# varies: OPENBLAS_NUM_THREADS=1: print(sorted(x["num_threads"] for x in threadpool_info()))
# varies: OPENBLAS_CORETYPE=Nehalem: print({x["architecture"] for x in threadpool_info()})
# draws: print(scipy.stats.norm.rvs()); print(scipy.stats.qmc.Sobol(1).random())
# preload: import numpy, scipy.fft, scipy.integrate, scipy.linalg, scipy.optimize
# preload: import scipy.sparse.linalg, scipy.stats
import numpy as np
import scipy.fft
import scipy.integrate
import scipy.linalg
import scipy.optimize
import scipy.sparse
import scipy.sparse.linalg
import scipy.stats

a = np.arange(900.0).reshape(30, 30) % 7 + 10 * np.eye(30)
print(scipy.linalg.lu_factor(a)[1].tolist())
print(scipy.linalg.eigvalsh(a + a.T).round(8).tolist())
print(scipy.optimize.minimize(scipy.optimize.rosen, [1.3, 0.7, 0.8], method="BFGS").x.round(5))
print(scipy.integrate.quad(lambda x: np.exp(-(x**2)), -np.inf, np.inf))
print(scipy.fft.fft(a, workers=2).real.sum().round(6))
matrix = scipy.sparse.diags([1.0, 4.0, 1.0], [-1, 0, 1], shape=(200, 200), format="csc")
print(scipy.sparse.linalg.spsolve(matrix, np.ones(200)).sum())
print(scipy.stats.ttest_ind(a[0], a[7]))
