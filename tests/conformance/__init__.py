"""The checks that every adapter must pass, run through its real process against a scripted gateway.

An adapter joins with a `Rig` (`rig.py`) that can start, break and mend its platform or a stand-in of it; see `rigs.py`.
"""
