"""Routes for questions of people: each module answers one, over the state that the verbs read."""
