"""What a study keeps on disk: files that are whole or not there, and whose damage is noticed."""
