"""The environment variables this package reads. None is needed for face mode."""

SWITCH = "LLAVA_FACE"
"""``0`` switches the import hook off."""

CPU_SWITCH = "LLAVA_FACE_CPU_DRY_RUN"
"""``1`` answers CUDA calls on the CPU, for dry runs and tests (compat/cpu.py)."""

NEXT_COMPAT_SWITCH = "LLAVA_FACE_NEXT_COMPAT"
"""``1`` mends LLaVA-NeXT on transformers 4.57, on which it does not run as it is (compat/next_compat.py)."""
