"""An embedded Conductor server for laptops and tests: the same REST API, on SQLite, in one process."""

from podium.server.serving import EmbeddedServer, serve

__all__ = ["EmbeddedServer", "serve"]
