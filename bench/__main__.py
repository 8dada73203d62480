"""`python -m bench`: one thread for everybody, said before any of the libraries that read it is imported; then `command.py`."""

import os
import sys

ONE_THREAD = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "VECLIB_MAXIMUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "NPROC": "1",  # the size of XLA's pool; without it the flags leave its fused loops on all cores
}

if __name__ == "__main__":
    os.environ.update(ONE_THREAD)
    from bench.command import main

    sys.exit(main())
