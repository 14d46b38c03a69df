"""The hub: what a repository has, which files a run needs, and how they get into the hub cache."""
