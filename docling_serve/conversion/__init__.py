"""One job, from ``job.json`` to ``result.body``: the only code that touches docling's converters
and models. It runs in a worker process, or in a thread of the server."""
