# preload: import matplotlib.pyplot
import io

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

plt.plot([1, 2, 3])
file = io.BytesIO()
plt.savefig(file, format="png")
print(file.getbuffer().nbytes > 99)
