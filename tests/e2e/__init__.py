"""The whole of Assay through real processes: server, clients in three languages, Redis, signals."""
