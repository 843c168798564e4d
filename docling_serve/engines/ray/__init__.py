"""The Ray engine: tasks on a Ray cluster, through docling-jobkit's orchestrator."""
