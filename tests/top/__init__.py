"""`fabricwise top`: the arrangement of its rows, its keys and screens, and what it shows when there is no answer."""
