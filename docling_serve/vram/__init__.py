"""GPU memory as the server sees it: read through the driver, never through a CUDA context.

No module of this package imports torch or calls CUDA. A CUDA context costs hundreds of MB that only
the exit of the process frees, and one in the server would stay permanently.
"""
