#!/usr/bin/python3
"""test_stop_bench: bench/stop in small, with every figure but the time."""
# timeout: 120

import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

if __name__ == "__main__":
    # A machine under load may be late; that everything dies and that every
    # agent has said so is asserted whatever the time.
    sys.exit(subprocess.run([os.path.join(ROOT, "bench/stop"), "--agents", "3", "--commands", "36",
                             "--rate", "10000000", "--delay", "20", "--budget", "10000"],
                            timeout=110, check=False).returncode)
