"""joblib's processes, which loky starts."""

import tell
from joblib import Parallel, delayed

if __name__ == "__main__":
    tell.for_workers()
    tell.submitted()
    print(*Parallel(n_jobs=2)(delayed(tell.first_line)(i) for i in range(2)))
