"""
Tests of what is booted run where it is: inside a guest, which has its configuration's name in JAIL_VM.
"""

import os

collect_ignore = (
    [] if "JAIL_VM" in os.environ else ["test_delegation.py", "test_refused.py", "test_old_kernel.py"]
)
