"""Commands that run a part of Fabricwise, or write what it knows to a file."""
