"""The application: one module per stage of the night, and what the stages share."""

import os

# Read by OpenMP and BLAS when they load. Waiting threads sleep instead of spinning: on a machine where something else
# runs, spinning stalls the training. `implicit` brings its own threads and wants BLAS to have one.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
