"""What the process that sends the load and the one that started it share: the job, the journal, words for failures."""
