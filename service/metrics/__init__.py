"""What the node's processes count, where they count it, and how a worker on another machine tells it."""
