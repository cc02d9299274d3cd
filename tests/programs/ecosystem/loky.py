import os
import sys

from joblib import Memory, Parallel, delayed


def square(x):
    return x * x, os.path.basename(os.path.dirname(sys.executable)), "json" in sys.modules


if __name__ == "__main__":
    print(Parallel(n_jobs=2)(delayed(square)(x) for x in range(6)))
    print(Parallel(n_jobs=2, backend="multiprocessing")(delayed(abs)(-x) for x in range(3)))
    print(Parallel(n_jobs=2, prefer="threads")(delayed(len)([x] * x) for x in range(3)))
    print(Memory("memory", verbose=0).cache(square)(3)[0])
