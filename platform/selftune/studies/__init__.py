"""Studies: from a study file to trained networks, their comparison and their replay.

Nothing is imported here, so that ``selftune.studies.tune`` needs torch and numpy only.
"""
