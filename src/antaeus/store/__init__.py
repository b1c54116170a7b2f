"""What a run leaves behind: plain files in one directory."""
