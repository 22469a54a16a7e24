"""Questions to the cluster and changes of it: topics, offsets, groups, permissions, claims."""
