"""Pages of the site that are made of the code: recipe keys, commands, files, messages. ``conf.py`` calls them."""
