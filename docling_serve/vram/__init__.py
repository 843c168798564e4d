"""GPU memory as the server sees it: read through the driver, never through a CUDA context.

Nothing below this package imports torch or talks to CUDA. A CUDA context costs hundreds of MB
that only the end of the process gives back, and one in the server would stay for good.
"""
