"""What is learned from: workloads, the servers that are simulated for them, files, and what was found."""
