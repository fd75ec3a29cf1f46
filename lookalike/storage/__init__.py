"""Where state lies: atomic files and folders, and Delta tables through delta-rs."""
