"""Images for people: instances drawn on scans, ground truth beside prediction, contact sheets."""
