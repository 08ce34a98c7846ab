"""The fold: how objects and events become the state, and what is kept of them."""
