"""Pages for a browser, each one HTML file that asks no other host for anything."""
