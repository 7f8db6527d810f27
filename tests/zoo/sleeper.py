"""``python -m tests.zoo.sleeper FILE`` writes its process's number to a file, and sleeps."""

import os
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    Path(sys.argv[1]).write_text(str(os.getpid()))
    time.sleep(600)
