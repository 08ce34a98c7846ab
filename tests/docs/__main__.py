"""`python -m tests.docs`: write the generated parts of the documentation anew."""

from tests.docs.generated import write

write()
