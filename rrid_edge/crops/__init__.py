"""Crops: image files to pixels, what file names tell, listing a folder."""
