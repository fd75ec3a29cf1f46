"""The HTTP server: searches on the live release, follows the pointer, and serves the page."""
