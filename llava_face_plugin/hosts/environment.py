"""The environment variables this package reads. Neither is needed for face mode."""

SWITCH = "LLAVA_FACE"
"""``0`` switches the import hook off."""

CPU_SWITCH = "LLAVA_FACE_CPU_DRY_RUN"
"""``1`` answers CUDA calls on the CPU, for dry runs and tests (compat/cpu.py)."""
