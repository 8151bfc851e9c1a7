"""Print which mellea a program beside this checkout's own files gets; run by test_packaging.py."""

import mellea

print(mellea.__file__)
