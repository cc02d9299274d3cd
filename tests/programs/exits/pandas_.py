# preload: import pandas
import io

import pandas

frame = pandas.read_csv(io.StringIO("a,b\n1,x\n2,y\n"))
print(frame.groupby("b").a.sum().to_json(), frame.a.describe()["mean"])
