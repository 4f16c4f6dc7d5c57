"""What `bare_infer.py` does, with edgecls embedded in a program of a few lines."""

import sys

from edgecls_runtime import Classifier

with Classifier.load(sys.argv[1]) as classifier:
    for prediction in classifier.predict(sys.argv[2]):
        print(f"{prediction.score:.2%} {prediction.label}")
