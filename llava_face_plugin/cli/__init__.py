"""``llava-face``: one file a command, assembled in main.py."""
