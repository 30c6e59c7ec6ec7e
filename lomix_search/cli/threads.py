"""How threads wait for one another: asleep, where the user does not say otherwise.

OpenMP's default is to spin: with two threads beside one busy core that doubles a step's time and triples its processor
time, and on a quiet machine it gains nothing that could be measured. The variable is read when torch is first imported,
so this module is imported before everything else.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
