"""What tests share: networks, recipes, items, files in their users' layouts, browsers and servers."""
