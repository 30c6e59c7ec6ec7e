"""New images without labels, segmented by finished runs.

Run folders and images go in; a file of labels for each image comes out, on the image's grid and with the user's values.
Imports the modules of ``experiments`` and what they import; ``predict_images`` is the entrance.
"""
