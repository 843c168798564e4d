"""What children of the doctor find out, one module per question.

Each has ``answer(tell)``: it finds out, and hands plain data to ``tell`` once.
"""
