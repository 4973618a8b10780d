"""``python -m lmms_eval`` for one process of several: the same, but its process group is ended before Python is.

lmms-eval 0.7.3 leaves that to the interpreter's exit, where a thread of gloo that still runs aborts the process
("terminate called without an active exception", seen once in four runs); torchrun then kills the process that is
writing the results.
"""

from __future__ import annotations


def main() -> None:
    """Run lmms-eval's command line. No barrier: after an error in one process that would wait for ever."""
    import torch.distributed
    from lmms_eval.__main__ import cli_evaluate

    try:
        cli_evaluate()
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
