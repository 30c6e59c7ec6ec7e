"""How threads wait for one another: asleep, where the user does not say otherwise.

OpenMP's default is to spin: on a busy machine of two cores that doubled the time of a run with two threads and tripled
its processor time, and on a quiet one it gained nothing that could be measured. The variable is read when torch is
first imported, so this module is imported before everything else.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
