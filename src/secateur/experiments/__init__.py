"""From a sweep or a search to stored rows and the winner's file."""
