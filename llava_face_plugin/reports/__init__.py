"""What all reports share: the frame of a page, tables, pictures."""
