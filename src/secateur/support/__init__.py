"""What knows nothing of networks: whole files, checksums, progress, numbers, references."""
