"""podium: Python functions as durable tasks of the Conductor workflow engine."""
