"""The useful import of tests: quick, where scripts/bench-engines has transformers.

Tells who loads it, if ENGINES_LOADED is set: not where an image is made, whose key the file of
those who have told would be in.
"""

import json
import os
import sys

if "ENGINES_LOADED" in os.environ:
    with open(os.environ["ENGINES_TOLD"], "a") as told:
        told.write(json.dumps({"loaded": os.getpid(), "argv": sys.orig_argv}) + "\n")
