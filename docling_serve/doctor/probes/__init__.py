"""The questions that children of the doctor answer, one module each.

Each has ``answer(tell)``: it examines, and passes plain data to ``tell`` once.
"""
