"""Work in copies of this process, so that it takes neither the interpreter's lock from the verbs nor memory that stays."""
