"""What a pod asks for: requests, annotations, classes, templates."""
