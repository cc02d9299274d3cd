# varies: MPLBACKEND=svg: print(matplotlib.get_backend())
# preload: import matplotlib.backends.backend_agg
# preload: import matplotlib.pyplot, numpy
import hashlib
import io

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

figure, axes = plt.subplots(2, 2, layout="constrained")
x = np.linspace(0, 7, 200)
axes[0][0].plot(x, np.sin(x), label=r"$\sin x$")
axes[0][0].legend()
axes[0][1].imshow(np.arange(100).reshape(10, 10), cmap="viridis")
axes[1][0].hist(x % 1)
axes[1][1].text(0.5, 0.5, r"$\frac{1}{\sqrt{2}}$ text")
for kind in ("png", "pdf", "svg"):
    out = io.BytesIO()
    matplotlib.rcParams["svg.hashsalt"] = "same"
    empty = {"Date": None} if kind == "svg" else {"CreationDate": None} if kind == "pdf" else {}
    figure.savefig(out, format=kind, metadata=empty)
    print(kind, len(out.getvalue()), hashlib.sha256(out.getvalue()).hexdigest())
print(np.asarray(figure.canvas.buffer_rgba()).sum())
